"""What one call sends leaves together, or not at all."""

import pytest

from django_tasks.canvas import chord, group, signature
from django_tasks.canvas.dispatch import at_once, gathering, sending
from django_tasks.registry import registry
from django_tasks.tasks import Task, shared_task


@pytest.fixture
def strict():
    """A task that takes exactly one argument."""

    @shared_task(name="d.strict")
    def strict(x):
        return x

    yield strict
    registry.unregister("d.strict")


def test_sending_joins_blocks(world):
    """Nested blocks leave with the outermost, in one publish."""
    with sending():
        signature("d.one").apply_async()
        with sending():
            signature("d.two").apply_async()
        assert not world.published
    assert [[message.task for message in batch] for batch in world.published] == [["d.one", "d.two"]]


def test_nothing_leaves_when_the_block_raises(world, strict):
    """A wrong member keeps the whole group at home, and its chord unopened."""
    with pytest.raises(TypeError):
        chord([strict.s(1), strict.s(1, 2)], strict.s()).apply_async()
    assert not world.published
    assert not world.results.chords


def test_gathering_publishes_nothing(world):
    """What is gathered is the caller's to send."""
    with gathering() as outbox:
        group(signature("d.one"), signature("d.two")).apply_async()
    assert [message.task for message in outbox.messages] == ["d.one", "d.two"]
    assert not world.published


def test_at_once_leaves_by_itself(world):
    """Inside at_once a call leaves although others are being gathered."""
    with gathering() as outbox, at_once():
        signature("d.one").apply_async()
    assert not outbox.messages
    assert len(world.published) == 1


def test_calls_that_want_it_differently_leave_apart(world):
    """A member with its own on_commit is published by that."""
    with sending():
        signature("d.one").apply_async()
        signature("d.two").apply_async(on_commit=False)
        signature("d.three").apply_async(on_commit=False)
    assert [[message.task for message in batch] for batch in world.published] == [["d.one"], ["d.two", "d.three"]]
    assert [policy["on_commit"] for policy in world.policies] == [None, False]


def test_overridden_apply_async_is_honoured(world):
    """A task's own apply_async sees every call, also as a member of a group."""
    seen = []

    class Counting(Task):
        def apply_async(self, args=None, kwargs=None, **options):
            seen.append(args)
            return super().apply_async(args, kwargs, **options)

    @shared_task(name="d.counting", base=Counting)
    def counting(x):
        pass

    try:
        group(counting.s(1), counting.s(2)).apply_async()
        assert seen == [(1,), (2,)]
        assert len(world.published) == 1
    finally:
        registry.unregister("d.counting")
