"""Workflows that go on from where they failed, by real workers, with messages on every broker and results in a database."""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from pytest_django import DjangoDbBlocker

from django_tasks import chord, group, states
from django_tasks.models import TaskResult
from django_tasks.operations.calls import NotRepeatable
from django_tasks.operations.resuming import resume
from django_tasks.result import AsyncResult
from tests.acceptance.workflow_place import Running, running
from tests.places import EVERYWHERE
from tests.processes import wait_until
from tests.workflows.table import PATIENCE
from tests.workflows.tasks import note, noted

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True, databases=["default", "postgres"])]


@pytest.fixture
def _django_db_helper() -> None:
    """Leave the rows of a test to the next: all of a place share one worker, which has its rows there, too."""


@pytest.fixture(scope="module", params=EVERYWHERE)
def place(
    request: pytest.FixtureRequest, django_db_setup: None, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """One worker of two processes for all tests of a place; results are rows, and messages too where the broker is a database."""
    results = "db://postgres" if request.param == "postgres" else "db://default"
    effects = tmp_path_factory.mktemp("resuming") / "effects"
    with django_db_blocker.unblock(), running(request.param, effects, "-c", "2", RESULT_BACKEND=results) as world:
        yield world


class Story:
    """One workflow: its steps by name, those that are broken, and what ran."""

    def __init__(self, place: Running) -> None:
        self.key = str(uuid4())
        self.rows = TaskResult.objects.using("postgres" if place.place.name == "postgres" else "default")

    def step(self, name: str, *value: Any) -> Any:
        """Return a step: ``value`` for one that comes first."""
        from tests.sampleapp import workflows as own

        return own.mend.s(*value, key=self.key, name=name)

    def break_(self, *names: str) -> None:
        """Let these fail from now on."""
        for name in names:
            note(f"{self.key} broken {name}")

    def failed(self) -> list[TaskResult]:
        """Return the tasks that ran and failed."""
        rows = self.rows.filter(status__in=states.PROPAGATE_STATES, task_kwargs__contains=self.key, meta__contains="follows")
        return list(rows.order_by("id"))

    def ran(self) -> list[str]:
        """Return the names of the steps that ran, in order."""
        return [line.split()[2] for line in noted() if line.startswith(f"{self.key} ran ")]

    def pid(self, name: str) -> int:
        """Return the process of the latest run of a step."""
        return int([line for line in noted() if line.startswith(f"{self.key} ran {name} ")][-1].split()[3])

    def go_on(self, count: int) -> list[str]:
        """Wait until so many have failed, and let it go on from them as soon as that can be."""
        wait_until(lambda: len(self.failed()) == count, f"{count} failures")
        note(f"{self.key} mended")
        sent: list[str] = []

        def resumed() -> bool:
            try:
                sent.extend(resume(self.failed()))
            except NotRepeatable as error:
                # Another part is on its way, or the chord is just ending.
                if "have not run yet" in str(error) or "in this moment" in str(error):
                    return False
                raise
            return True

        wait_until(resumed, "all parts to have run")
        return sent


def value(result: Any) -> Any:
    """Ask anew, as a process would that has never seen the result."""
    return AsyncResult(result.id).get(timeout=PATIENCE)


@pytest.fixture
def story(place: Running) -> Story:
    """A story of its own."""
    return Story(place)


def test_a_chain(story: Story) -> None:
    """The second of four fails once, and goes on: the first doesn't run again, the end gives the value."""
    story.break_("2")
    result = (story.step("1", 0) | story.step("2") | story.step("3") | story.step("4")).delay()
    wait_until(lambda: AsyncResult(result.id).state == states.FAILURE, "the failure")
    assert story.go_on(1) == [result.parent.parent.id]
    assert value(result) == 4
    assert story.ran() == ["1", "2", "2", "3", "4"]
    assert not story.failed()


def five(story: Story) -> Any:
    """A chord of five parts, and what follows it."""
    return group(story.step(f"p{n}", n) for n in range(5)) | story.step("body") | story.step("end")


def chained(story: Story) -> Any:
    """A chord with a part that is a chain."""
    return chord([story.step("a", 0) | story.step("b") | story.step("c"), story.step("p", 0)], story.step("body"))


def nested(story: Story) -> Any:
    """A chord in a chord in a chain."""
    inner = story.step("x") | chord([story.step("i1"), story.step("i2")], story.step("inner"))
    return story.step("0", 0) | chord([inner, story.step("o")], story.step("outer")) | story.step("end")


SHAPES: dict[str, tuple[Callable[[Story], Any], tuple[str, ...], int, list[str]]] = {
    "two of five parts": (five, ("p1", "p3"), 16, ["body", "end", "p0", "p1", "p1", "p2", "p3", "p3", "p4"]),
    "a step of a part": (chained, ("b",), 4, ["a", "b", "b", "body", "c", "p"]),
    "a body": (five, ("body",), 16, ["body", "body", "end", "p0", "p1", "p2", "p3", "p4"]),
    "an inner part": (nested, ("i2",), 9, ["0", "end", "i1", "i2", "i2", "inner", "o", "outer", "x"]),
    "an inner and an outer part": (nested, ("i2", "o"), 9, ["0", "end", "i1", "i2", "i2", "inner", "o", "o", "outer", "x"]),
}


@pytest.mark.parametrize("name", SHAPES)
def test_chords(story: Story, name: str) -> None:
    """What failed runs twice, everything else once, and the end gives the value."""
    made, broken, wanted, runs = SHAPES[name]
    story.break_(*broken)
    result = made(story).delay()
    story.go_on(len(broken))
    assert value(result) == wanted
    assert sorted(story.ran()) == runs


def test_chords_in_chains_in_a_group(story: Story) -> None:
    """Both chains go on, each from its own failure."""
    chains = group(
        story.step(f"{n}", n) | group(story.step(f"{n}a"), story.step(f"{n}b")) | story.step(f"{n}t") | story.step(f"{n}end")
        for n in range(2)
    )
    story.break_("0a", "1t")
    result: Any = chains.delay()
    story.go_on(2)
    assert [value(one) for one in result.results] == [5, 7]


def test_a_revoked_step(story: Story) -> None:
    """The workers remember that it was revoked, and run it nevertheless when it is sent again."""
    result = (story.step("1", 0).set(countdown=6) | story.step("2")).delay()
    result.parent.revoke()
    story.go_on(1)
    assert value(result) == 2
    assert story.ran() == ["1", "2"]


def test_a_kill_in_between(story: Story) -> None:
    """The process that runs it again is shot with kill -9: it is delivered once more, and the workflow ends well."""
    story.break_("p1")
    note(f"{story.key} slow p1")
    result = chord([story.step("p0", 0), story.step("p1", 1)], story.step("body")).delay()
    story.go_on(1)
    wait_until(lambda: story.ran().count("p1") == 2, "the second run")
    victim = story.pid("p1")
    note(f"{story.key} shot")
    os.kill(victim, signal.SIGKILL)
    assert value(result) == 3
    assert story.ran().count("body") == 1


def test_nothing_is_left(place: Running) -> None:
    """After all of that the queues are empty, and the worker is the process that it was."""
    wait_until(lambda: place.place.left() == 0, "the queues to be empty")
    assert place.worker.process.poll() is None
