"""Before the first fork: waiting until the broker is there, and not for what can never work."""

import logging
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from django_tasks import brokers, events, result_backends
from django_tasks.exceptions import OperationalError, ServerRefusedError
from django_tasks.readiness import check_databases
from django_tasks.worker.beforefork import close_what_is_open
from django_tasks.worker.outage import Outage, broker_in_words, endurance

logger = logging.getLogger("django_tasks.worker")

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def await_broker(queues: Sequence[str], *, beat: bool = False) -> int | None:
    """Wait until the broker answers; return None then, and otherwise the exit status with which the worker is to end.

    One process asks, so that a broker that is away is told once and not by every child. Raises ServerRefusedError where waiting is
    no use: tables or the database are missing, or the credentials are wrong, whatever BROKER_CONNECTION_RETRY says.
    """
    outage = Outage()
    with _heeding_signals() as stop:
        while True:
            try:
                _ask(queues, beat=beat)
            except ServerRefusedError:
                raise
            except OperationalError as error:
                limits = endurance(starting=True)
                if limits.most is not None and outage.failures >= limits.most:
                    logger.critical("%s can't be reached, and %s: this worker ends. %s", broker_in_words(), limits.because, error)
                    return 1
                if stop.wait(outage.failed(broker_in_words(), error)):
                    logger.warning("%s was not reached before this worker was told to stop", broker_in_words())
                    return 0
            else:
                outage.succeeded(broker_in_words())
                break
    forget_connections()
    return None


def _ask(queues: Sequence[str], *, beat: bool) -> None:
    broker = brokers.current()
    try:
        check_databases(beat=beat)
    except ServerRefusedError:
        raise
    except OperationalError:
        # With another broker there is work that needs no database; the node tells of it.
        if broker.joins_transaction:
            raise
    if not broker.joins_transaction:
        broker.size(queues[0])


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
