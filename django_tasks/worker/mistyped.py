"""Queues that were typed by hand, whose names look like slips."""

import logging
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

from django_tasks import brokers, routing
from django_tasks.exceptions import OperationalError
from django_tasks.registry import registry

logger = logging.getLogger("django_tasks.worker")

#: How alike two names must be, so that ``mail-2`` beside ``mail`` is taken for intended less often than ``mial``.
_ALIKE: Final = 0.75


def warn_of_mistyped(queues: Sequence[str], *, then: str) -> bool:
    """Warn of each queue that nobody knows and that looks like a known one; ``then`` says what happens to it.

    Return whether the broker was asked: it is only where the settings and the tasks do not know a name.
    """
    known = {*routing.current().known_names, *filter(None, (getattr(registry[name], "queue", None) for name in registry))}
    near = {name: found for name in queues if name not in known and (found := get_close_matches(name, known, n=1, cutoff=_ALIKE))}
    if not near:
        return False
    try:
        there = set(brokers.current().queues())
    except OperationalError:
        # The work that follows says that the broker is away, and how it goes on.
        return True
    for name in near.keys() - there:
        logger.warning(
            "The queue %r is in neither TASK_QUEUES nor TASK_ROUTES, and the broker has none of that name; did you mean %r? %s",
            name,
            near[name][0],
            then,
        )
    return True
