"""The worker: receives messages, runs their tasks, stores what came of them."""

import logging
import os
import sys
from collections.abc import Callable

from django_tasks import brokers, signals
from django_tasks.registry import registry
from django_tasks.worker.banner import compose_banner
from django_tasks.worker.mistyped import warn_of_mistyped
from django_tasks.worker.node import Beat
from django_tasks.worker.options import WorkerOptions
from django_tasks.worker.preparing import prepare
from django_tasks.worker.ratelimits import RateLimits
from django_tasks.worker.solo import SoloWorker
from django_tasks.worker.starting import await_broker, forget_connections
from django_tasks.worker.supervisor import Supervisor

__all__ = ["WorkerOptions", "run_worker"]

logger = logging.getLogger("django_tasks.worker")


def run_worker(options: WorkerOptions, *, beat: Beat | None = None, say: Callable[[str], object] = lambda text: None) -> int:
    """Run a worker until it is told to stop; return its exit status: 0 after a warm shutdown, 1 after a cold one.

    Call it in the main thread of a process that has no other threads, with Django set up and all tasks imported. ``beat``
    runs in the node until its event is set. ``say`` receives the banner.
    """
    signals.worker_init.send(options.name, instance=options)
    if options.banner:
        say(compose_banner(options, registry, with_tasks=logger.isEnabledFor(logging.INFO)))
    status = await_broker(options.queues, beat=beat is not None)
    if status is not None:
        return status
    if warn_of_mistyped(options.queues, then="It is consumed all the same"):
        forget_connections()
    if options.purge:
        _purge(options)
    rates = RateLimits(registry)
    make = Supervisor if options.forks else SoloWorker
    worker = make(options, rates=rates, revoked=prepare(), beat=beat)
    # In Celery's words, for which scripts wait: the broker has answered, and what comes now is worked on.
    logger.info("%s ready.", options.name)
    signals.worker_ready.send(options.name, instance=options)
    status = worker.run()
    signals.worker_shutdown.send(options.name, instance=options)
    if worker.wants_restart and status == 0:
        _restart()
    return status


def _purge(options: WorkerOptions) -> None:
    broker = brokers.current()
    deleted = sum(brokers.purge(dict.fromkeys(options.queues, broker)).values())
    logger.warning("Purged %d messages from %s", deleted, ", ".join(options.queues))
    forget_connections()


def _restart() -> None:
    logger.info("Restarting")
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  this very command again
