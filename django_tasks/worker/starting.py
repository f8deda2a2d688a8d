"""Before the first fork: waiting until the broker is there."""

import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from django_tasks import brokers, events, result_backends
from django_tasks.exceptions import OperationalError
from django_tasks.worker.beforefork import close_what_is_open
from django_tasks.worker.outage import Outage, broker_in_words, endurance

logger = logging.getLogger("django_tasks.worker")

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def await_broker(queues: Sequence[str]) -> int | None:
    """Wait until the broker answers; return None then, and otherwise the exit status with which the worker is to end.

    One process asks, so that a broker that is away, or a wrong password, is told once and not by every child. A database is
    not asked: Django's own errors say what is wrong with it.
    """
    broker = brokers.current()
    if broker.joins_transaction:
        return None
    outage = Outage()
    with _heeding_signals() as stop:
        while True:
            try:
                broker.size(queues[0])
            except OperationalError as error:
                limits = endurance(starting=True)
                if limits.most is not None and outage.failures >= limits.most:
                    logger.critical("%s can't be reached, and %s: this worker ends. %s", broker_in_words(), limits.because, error)
                    return 1
                if stop.wait(outage.failed(broker_in_words(), error)):
                    logger.info("Told to stop before the broker could be reached")
                    return 0
            else:
                outage.succeeded(broker_in_words())
                break
    forget_connections()
    return None


def forget_connections() -> None:
    """Close all that was opened in this process, so that no child inherits it."""
    brokers.current().close()
    brokers.reset()
    result_backends.reset()
    events.reset()
    close_what_is_open()


@contextmanager
def _heeding_signals() -> Iterator[threading.Event]:
    stop = threading.Event()
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in _SIGNALS}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
