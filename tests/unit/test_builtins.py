"""The tasks that every worker has."""

from datetime import UTC, datetime, timedelta

import pytest
from django.test import override_settings

from django_tasks.builtins import BUILTINS
from django_tasks.canvas import chord, group, signature
from django_tasks.registry import registry
from django_tasks.tasks import shared_task


@pytest.fixture(autouse=True)
def add():
    """A task to work with."""

    @shared_task(name="b.add")
    def add(x, y=0):
        return x + y

    yield add
    registry.unregister("b.add")


def test_all_of_celerys_are_there():
    """Every built-in task of Celery is registered under its name."""
    names = ["backend_cleanup", "accumulate", "map", "starmap", "chunks", "group", "chain", "chord", "chord_unlock"]
    assert set(BUILTINS) == {f"celery.{name}" for name in names}
    assert all(registry[name] is task for name, task in BUILTINS.items())


def test_accumulate():
    """It returns its arguments, or one of them."""
    assert BUILTINS["celery.accumulate"](1, 2) == (1, 2)
    assert BUILTINS["celery.accumulate"](1, 2, index=1) == 2


def test_maps(add):
    """Map and starmap call the function with each item, async ones, too."""

    @shared_task(name="b.adouble")
    async def adouble(x):
        return 2 * x

    try:
        assert BUILTINS["celery.map"](dict(add.s()), [1, 2]) == [1, 2]
        assert BUILTINS["celery.starmap"](dict(add.s()), [[1, 2], [3, 4]]) == [3, 7]
        assert BUILTINS["celery.map"](dict(adouble.s()), [1, 2]) == [2, 4]
    finally:
        registry.unregister("b.adouble")


def test_chunks_sends_starmaps(world, add):
    """celery.chunks, sent by another client, sends one starmap a chunk."""
    BUILTINS["celery.chunks"](dict(add.s()), [[1, 2], [3, 4], [5, 6]], 2)
    assert [message.task for message in world.messages] == ["celery.starmap"] * 2


def test_group_and_chord_of_old_clients(world, add):
    """celery.group and celery.chord send what they are given."""
    BUILTINS["celery.group"]([dict(add.s(1)), dict(add.s(2))], None, "the-group", [10])
    assert [(message.group, list(message.args)) for message in world.messages] == [("the-group", [10, 1]), ("the-group", [10, 2])]
    BUILTINS["celery.chord"](dict(group(add.s(1), add.s(2))), dict(signature("b.add")))
    assert len(world.messages) == 4
    assert [size for size, _ in world.results.chords.values()] == [2]


def test_chain_and_chord_unlock_refuse():
    """What can't run says why."""
    with pytest.raises(NotImplementedError, match="first step"):
        BUILTINS["celery.chain"]()
    with pytest.raises(NotImplementedError, match="the-group"):
        BUILTINS["celery.chord_unlock"]("the-group", {})


def test_backend_cleanup(world, monkeypatch):
    """It deletes in portions what is older than RESULT_EXPIRES, and nothing where results are kept for ever."""
    portions = [1000, 7, 0]
    asked = []

    def expire(before, *, limit):
        asked.append((before, limit))
        return portions.pop(0)

    monkeypatch.setattr(world.results, "expire", expire, raising=False)
    with override_settings(DJANGO_TASKS={"RESULT_EXPIRES": 3600}):
        assert BUILTINS["celery.backend_cleanup"]() == 1007
    age = datetime.now(UTC) - asked[0][0]
    assert timedelta(minutes=59) < age < timedelta(minutes=61)
    with override_settings(DJANGO_TASKS={"RESULT_EXPIRES": None}):
        assert BUILTINS["celery.backend_cleanup"]() == 0
    assert len(asked) == 3


def test_chord_through_the_builtins(world, add):
    """A group that replaces a task is collected by celery.accumulate."""
    result = chord([add.s(1), add.s(2)], signature("celery.accumulate", kwargs={"index": 0})).apply_async()
    world.run()
    assert world.value(result) == [1, 2]
