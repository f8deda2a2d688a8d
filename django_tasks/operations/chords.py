"""Chords that wait for parts: counting them again from stored results, and ending those whose parts will never come."""

from collections.abc import Sequence
from datetime import timedelta

from django_tasks import brokers, clock, result_backends
from django_tasks.exceptions import ChordError
from django_tasks.result_backends.backend import OpenChord, ReadyChord
from django_tasks.result_backends.chordparts import ended
from django_tasks.worker.completer import Completer
from django_tasks.worker.recounts import PORTION


def waiting_chords(limit: int) -> list[OpenChord]:
    """Return chords that wait for parts, the oldest first. None where the result backend can't look for them (a cache)."""
    # Until now, by whichever clock is ahead.
    return result_backends.current().waiting_chords(clock.now() + timedelta(hours=1), limit=limit)


def found(group_ids: Sequence[str]) -> dict[str, OpenChord]:
    """Return those of these chords that wait for parts, by their ids."""
    return {chord.group_id: chord for chord in result_backends.current().find_chords(group_ids)}


def recount(group_ids: Sequence[str]) -> list[str]:
    """Count stored results of these chords' parts, and send the bodies of those that are complete; return their ids."""
    complete = []
    for start in range(0, len(group_ids), PORTION):
        # Sent before the next are claimed, so that no claim lapses meanwhile.
        chords = result_backends.current().recount_chords(group_ids[start : start + PORTION])
        _send(chords)
        complete += [chord.group_id for chord in chords]
    return complete


def fail(chords: Sequence[OpenChord], reason: str) -> None:
    """End chords as if a part had failed: their bodies don't run, get a ChordError, and their error callbacks are called."""
    _send([ended(chord.group_id, chord.body, ChordError(reason)) for chord in chords])


def _send(chords: Sequence[ReadyChord]) -> None:
    completer = Completer(broker=brokers.current(), backend=result_backends.current(), hostname="", wake=lambda: None)
    completer.send_bodies(chords)
