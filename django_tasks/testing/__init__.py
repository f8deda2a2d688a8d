"""For test suites: run tasks at once or by hand, look at what was published, move time, start a worker in a thread.

Importing this needs no settings. The conformance suites for brokers and result backends are modules of this package, too.
"""

from django_tasks.testing.beating import Occasion, due, run_beat
from django_tasks.testing.inmemory import TaskQueue, assert_not_published, assert_published, in_memory, published, run_pending
from django_tasks.testing.overriding import eager
from django_tasks.testing.publications import Publication, UncommittedWarning
from django_tasks.testing.testcases import TasksMixin
from django_tasks.testing.threadworker import ThreadWorker, worker
from django_tasks.testing.timetravel import Journey, travel

__all__ = [
    "Journey",
    "Occasion",
    "Publication",
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
    "travel",
    "worker",
]
