"""Opening connections through kombu: fail-over lists, settings, and what errors mean to a user."""

import random
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from types import TracebackType
from typing import Any, Final

from kombu.connection import Connection

from django_tasks.brokers.kombu.wire import AMQPSTransport, AMQPTransport
from django_tasks.conf import settings
from django_tasks.exceptions import ImproperlyConfigured, OperationalError, ServerRefusedError, SoftTimeLimitExceeded
from django_tasks.kombuaccess import describe, is_refusal, missing_package
from django_tasks.urls import URL, mask, told

#: Schemes of RabbitMQ that this package speaks itself; librabbitmq and qpid go the way of the other transports.
AMQP: Final[Mapping[str, Any]] = {"amqp": AMQPTransport, "pyamqp": AMQPTransport, "amqps": AMQPSTransport}
#: kombu's class is typed here and there.
_connection: Final[Any] = Connection
#: Milliseconds after which unacknowledged bytes end a connection. py-amqp's 1,000 is less than a pause of a busy server.
_TCP_USER_TIMEOUT: Final = 20_000
#: Seconds in which a server that is not blocked must answer.
ANSWER_WITHIN: Final = 10.0


class Server:
    """Where the URLs of a fail-over list lead: opens connections to the first one that answers."""

    def __init__(self, urls: Sequence[URL], **options: Any) -> None:
        self.urls = list(urls)
        self.scheme = urls[0].scheme.partition("+")[0]
        self.native = self.scheme in AMQP
        self._options = options
        self._lock = threading.Lock()
        #: The URL that answered last: others are tried when it fails.
        self._best = 0
        for url in self.urls:
            self._client(url, 0)

    def __str__(self) -> str:
        return mask([url.text for url in self.urls])

    @property
    def patience(self) -> float:
        """Seconds in which a connection must be there."""
        return float(settings.BROKER_CONNECTION_TIMEOUT)

    def open(self, *, heartbeat: float = 0) -> tuple[Any, Any]:
        """Connect; return kombu's client and the connection of its transport. Raises OperationalError."""
        failures = []
        for number in self._order():
            url = self.urls[number]
            client = self._client(url, heartbeat)
            try:
                with self.translating("connecting", url):
                    raw = client.transport.establish_connection()
            except OperationalError as error:
                failures.append(error)
                continue
            self._best = number
            if self.native:
                # Whatever waits for an answer below waits no longer than this for each piece of it.
                raw.transport.sock.settimeout(max(ANSWER_WITHIN, self.patience))
            return client, raw
        if len(failures) == 1:
            raise failures[0]
        kind = ServerRefusedError if all(isinstance(failure, ServerRefusedError) for failure in failures) else OperationalError
        raise kind("; ".join(str(failure) for failure in failures)) from failures[-1]

    def _order(self) -> list[int]:
        numbers = list(range(len(self.urls)))
        if settings.BROKER_FAILOVER_STRATEGY == "shuffle":
            random.shuffle(numbers)
            return numbers
        with self._lock:
            return numbers[self._best :] + numbers[: self._best]

    def _client(self, url: URL, heartbeat: float) -> Any:
        scheme = url.scheme.partition("+")[0]
        try:
            return _connection(
                url.text,
                transport=AMQP.get(scheme),
                ssl=settings.BROKER_USE_SSL,
                connect_timeout=self.patience,
                heartbeat=heartbeat,
                login_method=settings.BROKER_LOGIN_METHOD,
                transport_options={**self._defaults(scheme), **settings.BROKER_TRANSPORT_OPTIONS, **self._options},
            )
        except (ImportError, NameError) as error:
            # kombu's module for Kafka uses names that it could not import.
            raise ImproperlyConfigured(missing_package(url, error)) from error
        except (KeyError, TypeError, ValueError) as error:
            raise ImproperlyConfigured(f"BROKER_URL {mask(url.text)} can't be used: {told(error, url)}") from None

    def _defaults(self, scheme: str) -> dict[str, Any]:
        if scheme in AMQP:
            option = getattr(socket, "TCP_USER_TIMEOUT", None)
            return {} if option is None else {"socket_settings": {option: _TCP_USER_TIMEOUT}}
        if scheme == "sqs":
            # Long polling can't be woken: a worker must hear of its own tasks' ends meanwhile.
            return {"wait_time_seconds": 1, "polling_interval": 0.05}
        return {"polling_interval": 0.02}

    @contextmanager
    def translating(self, doing: str, url: URL | None = None) -> Iterator[None]:
        """Raise what goes wrong in here as OperationalError that names the server and says what can be done."""
        try:
            yield
        except (OperationalError, ImproperlyConfigured, SoftTimeLimitExceeded):
            raise
        except ImportError as error:
            raise ImproperlyConfigured(missing_package(url or self.urls[0], error)) from error
        except Exception as error:
            # Not a list of classes: py-amqp raises AttributeError and TypeError where a connection went away, and the other
            # transports what their clients raise.
            where = str(self) if url is None else mask(url.text)
            kind = ServerRefusedError if is_refusal(error) else OperationalError
            raise kind(f"{doing} failed on {where}: {describe(error)}") from error


class Losing:
    """Translates errors, and has ``lose`` let go of a connection that made one."""

    def __init__(self, translation: AbstractContextManager[Any], lose: Callable[[], None]) -> None:
        self._translation = translation
        self._lose = lose

    def __enter__(self) -> None:
        self._translation.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool | None:
        if isinstance(error, Exception):
            self._lose()
        return self._translation.__exit__(kind, error, trace)
