"""``pytest --plan quick`` (make test) and ``--plan all`` (make test-all): order a run, say how long it takes, show how far it is."""

import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from tests import runplan
from tests.runplan import Durations, Plan, Planned
from tests.services import SERVICES, missing

#: Seconds until each process has imported all tests, and until the databases are made.
STARTS_IN = 25
#: A line is shown when so many per cent more are done and some seconds have passed, or many seconds.
STEP, SHORTEST, LONGEST = 5, 2.0, 20.0


def add_options(parser: pytest.Parser) -> None:
    """Declare what `make` uses."""
    group = parser.getgroup("plan", "what make test and make test-all do")
    group.addoption(
        "--plan", choices=["quick", "all"], help=f"order and show the run; quick: without tests of more than {runplan.SLOW:g} s"
    )
    group.addoption("--write-durations", action="store_true", help=f"write {runplan.DURATIONS.name} from this run")


class Planner:
    """In each process that collects: order, leave out, group."""

    def __init__(self, config: pytest.Config) -> None:
        self.quick = config.getoption("plan") == "quick" and not any("::" in name or name.endswith(".py") for name in config.args)
        self.write_to = getattr(config, "workerinput", {}).get("plan")
        self.plan = Plan([], {})

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Bring the items in the order of the plan."""
        durations = Durations.read()
        slow = {item.nodeid for item in items if self.quick and (durations.slow(item.nodeid) or item.get_closest_marker("slow"))}
        if slow:
            config.hook.pytest_deselected(items=[item for item in items if item.nodeid in slow])
        kept = {item.nodeid: item for item in items if item.nodeid not in slow}
        cases = [Planned(nodeid, group_of(item), *_costs(item, durations)) for nodeid, item in kept.items()]
        self.plan = Plan(runplan.ordered(cases), dict(Counter(map(runplan.layer_of, slow))))
        items[:] = [kept[case.nodeid] for case in self.plan.cases]
        if self.write_to:
            self.plan.write(Path(self.write_to))


def _costs(item: pytest.Item, durations: Durations) -> tuple[float, bool]:
    skipped = item.get_closest_marker("skip") is not None
    return (0.0 if skipped else durations.of(item.nodeid)), skipped


def group_of(item: pytest.Item) -> str:
    """Name what must stay together: tests that share a fixture of their module, by its parameter; and files of quick tests."""
    path = item.nodeid.split("::")[0]
    definitions = item._fixtureinfo.name2fixturedefs.values()
    shared = any(one.scope in {"module", "class", "package"} and one.baseid.startswith("tests") for many in definitions for one in many)
    call = getattr(item, "callspec", None)
    if shared and call is not None:
        wide = [str(call.indices[name]) for name, scope in call._arg2scope.items() if scope.value not in {"function", "class"}]
        return "-".join([path, *sorted(wide)])
    return path if shared or runplan.layer_of(path) == "unit" else runplan.test_of(item.nodeid)


class Display:
    """In the process that shows the run: its head, its progress, its durations."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.folder = tempfile.TemporaryDirectory(prefix="django-tasks-plan-")
        self.path = Path(self.folder.name) / "plan.json"
        self.began = time.monotonic()
        self.plan: Plan | None = None
        self.cases: dict[str, Planned] = {}
        self.done: Counter[str] = Counter()
        self.total: Counter[str] = Counter()
        self.finished, self.shown, self.shown_at = 0.0, 0, self.began
        self.measured: dict[str, float] = defaultdict(float)

    @property
    def workers(self) -> int:
        """How many processes run tests."""
        return len(getattr(self.config.option, "tx", None) or [1])

    def say(self, text: str) -> None:
        """Print a line of its own."""
        reporter: Any = self.config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line(text)

    def pytest_report_header(self) -> list[str]:
        """Name the servers."""
        lines = [f"{name}: {'here' if missing(name) is None else f'its tests are skipped: {missing(name)}'}" for name in SERVICES]
        return [*lines, f"{self.workers} processes import all tests first, which takes some seconds"]

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """Tell the first process where to write the plan."""
        if node.gateway.id == "gw0":
            node.workerinput["plan"] = str(self.path)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self) -> None:
        """Show the plan as soon as the first process has made it."""
        if self.plan is None and self.path.exists():
            self.show(Plan.read(self.path))

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(self, config: pytest.Config, log: Any) -> Any:
        """Hand groups of cases to processes, in the order of the plan."""
        from xdist.scheduler import LoadScopeScheduling

        display = self
        config.option.loadscopereorder = False

        class Scheduling(LoadScopeScheduling):
            def _split_scope(self, nodeid: str) -> str:
                # Without a plan, the process that should have made it has ended.
                return display.cases[nodeid].group if nodeid in display.cases else runplan.test_of(nodeid)

        return Scheduling(config, log)

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Show the plan of a run in one process."""
        planner: Any = self.config.pluginmanager.get_plugin("planner")
        if planner is not None and session.items:
            self.show(planner.plan)

    def show(self, plan: Plan) -> None:
        """Print how many tests there are of each layer, and how long they take."""
        self.plan, self.cases = plan, {case.nodeid: case for case in plan.cases}
        self.total = Counter(runplan.layer_of(case.nodeid) for case in plan.cases)
        skipped = Counter(runplan.layer_of(case.nodeid) for case in plan.cases if case.skipped)
        self.say(f"{'':12}{'tests':>7}{'skipped':>9}{'left to make test-all':>24}")
        for layer in sorted({*self.total, *plan.left_out}, key=lambda name: runplan.rank_of(f"tests/{name}/")):
            self.say(f"{layer:12}{self.total[layer]:7,}{skipped[layer] or '':>9}{plan.left_out.get(layer) or '':>24}")
        self.say(f"about {clock(self.expected())} with {self.workers} processes")

    def expected(self) -> float:
        """How long it takes, in seconds."""
        seconds = self.plan.seconds if self.plan else 0.0
        return seconds / self.workers + (STARTS_IN if self.workers > 1 else 0)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count, and show a failure at once and the progress now and then."""
        limit = report.duration if report.when == "call" else runplan.LONGEST_FIXTURE
        if not report.skipped:
            self.measured[report.nodeid] += min(report.duration, limit)
        if report.failed:
            self.say(f"FAILED {report.nodeid} ({report.when})")
        if report.when == "teardown" and report.nodeid in self.cases:
            self.done[runplan.layer_of(report.nodeid)] += 1
            self.finished += self.cases[report.nodeid].seconds
            self.progress()

    def progress(self) -> None:
        """Print a line when there is something new to say: per cent of the time, not of the tests."""
        share = self.finished / (self.plan.seconds or 1.0) if self.plan else 0.0
        now, percent = time.monotonic(), int(100 * share)
        if now < self.shown_at + (SHORTEST if percent >= self.shown + STEP else LONGEST):
            return
        self.shown, self.shown_at = percent - percent % STEP, now
        running = (f"{layer} {self.done[layer]:,} of {total:,}" for layer, total in self.total.items() if self.done[layer] > 0)
        elapsed = now - self.began
        total = elapsed + (1 - share) * self.expected()
        self.say(f"{percent:3} %  {clock(elapsed)} of about {clock(total)}   {', '.join(running)}")

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """No dot for each test: the lines say more."""
        if hasattr(report, "wasxfail") or not (report.failed or report.skipped or report.when == "call"):
            return None
        if report.failed and report.when in {"setup", "teardown"}:
            return "error", "", "ERROR"
        return report.outcome, "", report.outcome.upper()

    def pytest_unconfigure(self) -> None:
        """Write the table if that was asked for."""
        if self.config.getoption("write_durations"):
            lines = runplan.measured(self.measured)
            runplan.DURATIONS.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
            sys.stdout.write(f"{runplan.DURATIONS}: {len(lines)} lines\n")
        self.folder.cleanup()


def clock(seconds: float) -> str:
    """Write minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def configure(config: pytest.Config) -> None:
    """Install what the options ask for."""
    if not config.getoption("plan"):
        return
    worker = hasattr(config, "workerinput")
    if worker or not getattr(config.option, "tx", None):
        config.pluginmanager.register(Planner(config), "planner")
    if not worker:
        config.pluginmanager.register(Display(config), "plan-display")
