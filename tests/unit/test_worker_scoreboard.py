"""The scoreboard: what slots write, others read."""

import pytest

from django_tasks.brokers.kombu.envelopes import key_of_tag, task_key
from django_tasks.result.arguments import is_id
from django_tasks.worker.scoreboard import Line, Scoreboard


def test_a_running_task_is_seen_with_its_delivery_and_deadline() -> None:
    """What a slot begins can be read from its block until it ends."""
    block = Scoreboard(2, 3)[1]
    block.begin(2, "some-id", "17", 100.0, 130.0)
    assert block.running() == [Line(2, "some-id", "17", 100.0, 130.0)]
    block.end(2)
    assert block.running() == []


def test_blocks_do_not_touch_each_other() -> None:
    """Filling every line of one child leaves the others' lines free."""
    board = Scoreboard(3, 2)
    for slot in range(2):
        board[1].begin(slot, "x" * 1100, "y" * 100, 1.0, None)
    assert board[0].running() == board[2].running() == []
    assert [len(line.task_id) for line in board[1].running()] == [1024, 1024]


def test_a_part_with_long_ids_is_named_whole() -> None:
    """An id has up to 255 characters, and so has a group's: cut, they would name a part that no chord waits for."""
    block = Scoreboard(1, 1)[0]
    for character in "p", "ä", "文", "\N{CRAB}":
        awaited = f"{character * 255} {character * 255}"
        block.begin(0, "id", "", 0.0, None, awaited)
        assert block.running()[0].awaited == awaited


@pytest.mark.parametrize("character", ["x", "ä", "文", "\N{CRAB}"])
def test_a_task_with_a_long_id_is_found(character: str) -> None:
    """An id has up to 255 characters of whatever script: cut, terminating it would find no task."""
    block = Scoreboard(1, 1)[0]
    task_id = character * 255
    assert is_id(task_id)
    block.begin(0, task_id, "1", 0.0, None)
    assert block.running()[0].task_id == task_id


def test_a_task_may_have_any_id() -> None:
    """Half a surrogate pair in an id, as JSON can carry it, does not end the worker's process; the id is read as it was."""
    block = Scoreboard(1, 1)[0]
    block.begin(0, "odd \ud800\0", "1:\ud800", 0.0, None, "part \udfff")
    (line,) = block.running()
    assert (line.task_id, line.tag, line.awaited) == ("odd \ud800\0", "1:\ud800", "part \udfff")


def test_a_tag_with_an_id_of_any_script_is_whole() -> None:
    """Where a broker's tag ends with the task's id, how its process died is written down by it: cut, a killed task would run again."""
    block = Scoreboard(1, 1)[0]
    task_id = "文" * 40
    tag = f"{10**6}.{10**9}:{task_key({'id': task_id}, {})}"
    block.begin(0, task_id, tag, 0.0, None)
    assert key_of_tag(block.running()[0].tag) == task_id


def test_only_lines_with_a_passed_deadline_are_overdue() -> None:
    """A task without a limit is never overdue; one with a limit is from that moment on."""
    block = Scoreboard(1, 3)[0]
    block.begin(0, "free", "1", 0.0, None)
    block.begin(1, "late", "2", 0.0, 10.0)
    block.begin(2, "early", "3", 0.0, 20.0)
    assert [line.task_id for line in block.overdue(10.0)] == ["late"]


def test_a_cleared_block_forgets_its_child() -> None:
    """The next child finds neither tasks nor counters of the one before."""
    block = Scoreboard(1, 1)[0]
    block.begin(0, "id", "1", 5.0, None)
    block.fetched(7.0, 42)
    assert (block.last_fetch, block.finished) == (7.0, 42)
    block.clear()
    assert (block.running(), block.last_fetch, block.finished) == ([], 0.0, 0)
