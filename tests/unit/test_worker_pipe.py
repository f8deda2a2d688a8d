"""The command pipe: whole commands, in order, and never a wait."""

from collections.abc import Iterator

import pytest

from django_tasks.worker.pipe import Channel

Ends = tuple[Channel, Channel]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """Both ends of a pipe."""
    ours, theirs = Channel.pair()
    yield ours, theirs
    ours.close()
    theirs.close()


def test_commands_arrive_whole_and_in_order(ends: Ends) -> None:
    """Several commands in one read are told apart."""
    ours, theirs = ends
    ours.send({"do": "stop"})
    ours.send({"do": "queues", "queues": ["a\nb", "ü"]})
    assert theirs.receive() == [{"do": "stop"}, {"do": "queues", "queues": ["a\nb", "ü"]}]
    assert theirs.receive() == []


def test_sending_never_blocks(ends: Ends) -> None:
    """More than the socket takes is kept, and arrives once the other side reads."""
    ours, theirs = ends
    for number in range(5000):
        ours.send({"do": "queues", "queues": [f"{number:0100}"]})
    received: list[dict[str, object]] = []
    while len(received) < 5000:
        ours.push()
        received += theirs.receive()
    assert [int(command["queues"][0]) for command in received] == list(range(5000))  # type: ignore[index]


def test_the_end_of_the_other_side_is_noticed(ends: Ends) -> None:
    """A closed peer closes the channel, for reading and for writing."""
    ours, theirs = ends
    theirs.close()
    assert ours.receive() == []
    assert ours.closed
    ours.send({"do": "stop"})
