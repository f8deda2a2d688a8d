"""What `make test` runs, in which order, and how long it says that it takes."""

from types import SimpleNamespace

import pytest

from tests import planplugin, runplan
from tests.runplan import Durations, Plan, Planned

TABLE = Durations(["0.004 tests/unit", "6.000 tests/acceptance/test_w.py::test_long", "0.300 tests/acceptance/test_w.py::test_short"])


@pytest.mark.parametrize(
    ("nodeid", "seconds", "slow"),
    [
        ("tests/acceptance/test_w.py::test_long[sqlite]", 6.0, True),
        ("tests/acceptance/test_w.py::test_short[a::b[c]]", 0.3, False),
        ("tests/unit/test_new.py::test_new", 0.004, False),
        ("tests/interop/test_new.py::test_new", 0.0, False),
    ],
)
def test_durations(nodeid, seconds, slow):
    """A case takes what its test takes on average; one that is new, what its layer does."""
    assert (TABLE.of(nodeid), TABLE.slow(nodeid)) == (seconds, slow)


def test_a_table_is_read_as_it_was_written():
    """Cases are averaged, tests that take nearly nothing become a line of their layer."""
    taken = {"tests/unit/a.py::x[1]": 1.0, "tests/unit/a.py::x[2]": 2.0, "tests/unit/a.py::y": 0.01, "tests/unit/b.py::z": 0.03}
    assert runplan.measured(taken) == ["   0.020 tests/unit", "   1.500 tests/unit/a.py::x"]
    assert Durations(runplan.measured(taken)).of("tests/unit/a.py::x[3]") == 1.5


def test_fast_layers_come_first_and_long_groups_before_short_ones():
    """Nothing that takes long is left over at the end, and what belongs together stays so, in its order."""
    cases = [
        Planned("tests/acceptance/t.py::short", "short", 1, skipped=False),
        Planned("tests/acceptance/t.py::long[1]", "long", 2, skipped=False),
        Planned("tests/elsewhere/t.py::x", "elsewhere", 9, skipped=False),
        Planned("tests/unit/t.py::x", "unit", 0, skipped=False),
        Planned("tests/acceptance/t.py::long[0]", "long", 3, skipped=True),
    ]
    groups = [case.nodeid.partition("tests/")[2] for case in runplan.ordered(cases)]
    assert groups == ["unit/t.py::x", "acceptance/t.py::long[1]", "acceptance/t.py::long[0]", "acceptance/t.py::short", "elsewhere/t.py::x"]


def test_a_plan_travels_to_the_process_that_shows_it(tmp_path):
    """It arrives as it was, with its sum."""
    plan = Plan([Planned("tests/unit/t.py::x", "g", 1.5, skipped=False), Planned("tests/unit/t.py::y", "g", 2, skipped=False)], {"unit": 3})
    plan.write(tmp_path / "plan")
    assert Plan.read(tmp_path / "plan") == plan
    assert plan.seconds == 3.5


def test_cases_of_one_test_stay_together_here(request):
    """A file of quick tests is one group."""
    assert planplugin.group_of(request.node) == "tests/unit/test_runplan.py"


@pytest.mark.parametrize(("arguments", "quick"), [(["tests"], True), (["tests/acceptance/test_w.py"], False), (["t.py::x"], False)])
def test_what_is_named_runs_though_it_is_slow(arguments, quick):
    """Nobody who names a file or a test is told that nothing was selected."""
    config = SimpleNamespace(getoption=lambda name: "quick", args=arguments)
    assert planplugin.Planner(config).quick is quick
