"""For test suites: run tasks at once or by hand, look at what was published, move time, start a worker in a thread.

Importing this needs no settings. The conformance suites for brokers and result backends are modules of this package, too.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from django_tasks.testing.beating import Occasion, due, run_beat
    from django_tasks.testing.inmemory import TaskQueue, assert_not_published, assert_published, in_memory, published, run_pending
    from django_tasks.testing.overriding import Scope, eager
    from django_tasks.testing.publications import Publication, UncommittedWarning
    from django_tasks.testing.testcases import TasksMixin
    from django_tasks.testing.threadworker import ThreadWorker, start_worker, worker
    from django_tasks.testing.timetravel import Journey, travel

# The pytest plugin lies in this package and is loaded for every test run, whether or not anything here is used.
_HOMES: Final = {
    "beating": ("Occasion", "due", "run_beat"),
    "inmemory": ("TaskQueue", "assert_not_published", "assert_published", "in_memory", "published", "run_pending"),
    "overriding": ("Scope", "eager"),
    "publications": ("Publication", "UncommittedWarning"),
    "testcases": ("TasksMixin",),
    "threadworker": ("ThreadWorker", "start_worker", "worker"),
    "timetravel": ("Journey", "travel"),
}

__all__ = [
    "Journey",
    "Occasion",
    "Publication",
    "Scope",
    "TaskQueue",
    "TasksMixin",
    "ThreadWorker",
    "UncommittedWarning",
    "assert_not_published",
    "assert_published",
    "due",
    "eager",
    "in_memory",
    "published",
    "run_beat",
    "run_pending",
    "start_worker",
    "travel",
    "worker",
]


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            found = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
