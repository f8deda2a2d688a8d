"""``manage.py tasks chords``: what waits, counting it again, and ending it by hand."""

import io
import json
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from django_tasks import chord, result_backends, shared_task, states
from django_tasks.exceptions import ChordError
from django_tasks.messages import Disposition, Settlement
from django_tasks.models import ChordCounter
from django_tasks.resultmetas import meta_of
from tests.database.lane import Lane, same, total

pytestmark = pytest.mark.django_db(transaction=True)

heard: list[Any] = []


@shared_task(name="chordcli.heard")
def hear(request, exc, traceback):
    """Note what failed."""
    heard.append(str(exc))


def run(*arguments: str) -> str:
    """What the command prints."""
    out = io.StringIO()
    call_command("tasks", "chords", *arguments, stdout=out)
    return out.getvalue()


def waiting(lane: Lane) -> Any:
    """Start a chord of two parts, one of which is counted; of the other the message is lost, and nothing is stored."""
    result = chord([same.s(1), same.s(2)], total.s().on_error(hear.s())).delay()
    first, second = lane.consumer.receive(2, 0)
    lane.completer.add(lane.run(first))
    lane.completer.flush(lane.consumer)
    lane.consumer.settle([Settlement(second, Disposition.ACK)])
    return result, second


def test_list(lane: Lane) -> None:
    """A line for each chord that waits: how far it is, and what it will send."""
    assert run() == "no chord waits for parts\n"
    result, _ = waiting(lane)
    (line,) = json.loads(run("--json"))
    group_id = ChordCounter.objects.get().group_id
    assert (line["group_id"], line["counted"], line["expected"]) == (group_id, 1, 2)
    assert (line["body"], line["body_id"]) == ("redelivery.total", result.id)
    waiting(lane)
    assert "--limit N shows more than these 1" in run("--limit", "1")
    assert group_id in run()


def test_recount(lane: Lane) -> None:
    """Of all that wait, or those that are named: a part whose result is there completes its chord."""
    result, lost = waiting(lane)
    other, _ = waiting(lane)
    assert run("recount") == "2 chords counted again; 0 complete\n"
    result_backends.current().store([meta_of(lane.run(lost), "w1@here")])
    group_id = ChordCounter.objects.order_by("id").first().group_id
    assert json.loads(run("recount", group_id, "--json")) == {"recounted": 1, "complete": [group_id]}
    lane.drain()
    assert result.get(timeout=1) == 3
    assert other.state == states.PENDING


def test_what_is_no_chord_is_not_counted_again(lane: Lane) -> None:
    """One id that is none says so, and nothing is done; it said «1 chord counted again»."""
    waiting(lane)
    group_id = ChordCounter.objects.get().group_id
    with pytest.raises(CommandError, match="no chord of the group nope waits for parts; nothing was done"):
        run("recount", group_id, "nope")


def test_a_chord_is_found_behind_any_number_of_older_ones(lane: Lane, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chord that is named is looked up by its id, not among the oldest."""
    monkeypatch.setattr("django_tasks.cli.chords.MOST", 1)
    for _ in range(2):
        waiting(lane)
    newest = ChordCounter.objects.order_by("id").last().group_id
    assert run("fail", newest) == "1 chord failed\n"


def test_fail(lane: Lane) -> None:
    """The body gets a ChordError with the reason, its error callback hears of it, and the chord is gone."""
    heard.clear()
    result, _ = waiting(lane)
    group_id = ChordCounter.objects.get().group_id
    with pytest.raises(CommandError, match="nothing was done"):
        run("fail", group_id, "unknown")
    assert run("fail", group_id, "--reason", "the queue was purged") == "1 chord failed\n"
    assert isinstance(result.result, ChordError)
    assert "the queue was purged" in str(result.result)
    assert len(heard) == 1
    assert "the queue was purged" in heard[0]
    assert run() == "no chord waits for parts\n"
    assert lane.drain() == []
