"""What follows an outcome that code outside of a worker has stored by ``app.backend.mark_as_done`` and ``mark_as_failure``."""

from typing import Any

from django_tasks import client
from django_tasks.canvas.completion import resolve
from django_tasks.canvas.links import followups
from django_tasks.outcomes import NO_FOLLOWUPS
from django_tasks.result_backends.backend import ResultBackend, ResultMeta


def follow(backend: ResultBackend, meta: ResultMeta, request: Any, error: Any) -> None:
    """Count the task as a part of its chord; with ``error`` fail what was to come after it, and call its error callbacks."""
    found = NO_FOLLOWUPS if error is None else followups(request, meta.status, error)
    messages, metas = list(found.messages), list(found.metas)
    backend.store(metas)
    parts = [each for each in (meta, *metas) if each.chord is not None]
    while parts:
        ready = backend.count_chord_parts(parts)
        parts = []
        for chord in ready:
            resolution = resolve(chord)
            backend.open_chords(resolution.chords)
            backend.store(resolution.metas)
            messages += resolution.messages
            parts += [each for each in resolution.metas if each.chord is not None]
        client.publish(messages)
        messages = []
        backend.close_chords([chord.group_id for chord in ready])
    client.publish(messages)
