"""Connections to message brokers through kombu, beside the brokers' own: for events, results of rpc:// and ``app.connection()``.

Fail-over lists, TLS and the transport's options are what the settings say; errors are said in one way.
"""

import os
import socket
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, Self, TypeVar

import kombu as untyped
from amqp import exceptions as amqp_errors

from django_tasks.conf import settings
from django_tasks.exceptions import ImproperlyConfigured, OperationalError, SoftTimeLimitExceeded, TaskError
from django_tasks.urls import URL, failover, mask, parse, told

# It loads its parts when they are asked for, which type checkers can't follow.
kombu: Any = untyped
T = TypeVar("T")

#: Brokers whose messages lie in this project's database or process.
LOCAL: Final = frozenset({"db", "memory"})
#: What our own Redis broker understands and redis-py doesn't.
_OURS: Final = frozenset({"priority_order"})
_REDIS: Final = frozenset({"redis", "rediss", "sentinel", "unix"})
_AMQP: Final = frozenset({"amqp", "amqps", "pyamqp"})
#: How a connection on which nobody speaks for long finds out that the other end is gone: asked after half a minute, three times.
_KEEPALIVE: Final = {
    getattr(socket, name): value
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
    if hasattr(socket, name)
}
#: Milliseconds after which unacknowledged bytes end a connection. py-amqp's 1,000 is less than a pause of a busy server.
_TCP_USER_TIMEOUT: Final = 20_000
_UNANSWERED: Final[int | None] = getattr(socket, "TCP_USER_TIMEOUT", None)
#: Seconds in which a server that is not blocked must answer.
_ANSWER_WITHIN: Final = 10.0
#: The same for the answer to a goodbye: of a server that has fallen silent, nobody is to wait for it.
_GOODBYE_WITHIN: Final = 1.0
#: What must be installed for a scheme, where that is not kombu's extra of the same name.
_REQUIREMENTS: Final = {
    "sqla": "kombu[sqlalchemy]",
    "kafka": "kombu[confluentkafka]",
    "confluentkafka": "kombu[confluentkafka]",
    "sqs": "django-tasks-engine[sqs]",
    **dict.fromkeys(("redis", "rediss", "sentinel", "unix"), "django-tasks-engine[redis]"),
    "slmq": "kombu[slmq]",
    "etcd": "python-etcd",
    "pyro": "Pyro4",
    "librabbitmq": "librabbitmq",
}
_HINTS: Final[Sequence[tuple[type[Exception], str]]] = (
    (amqp_errors.AccessRefused, "wrong user or password, or the user has no right to do this"),
    (amqp_errors.NotAllowed, "the virtual host does not exist, or the user has no right to it"),
    (
        amqp_errors.PreconditionFailed,
        "it exists on the server with other arguments than TASK_QUEUES and the settings say; delete it there or describe it as it is",
    ),
    (amqp_errors.ResourceLocked, "another connection holds it exclusively"),
)
#: How Redis says that it lets nobody in like that, in the words of its versions.
_REDIS_REFUSALS: Final = ("WRONGPASS", "NOAUTH", "invalid username-password", "Authentication required", "invalid password")


def connection(urls: Sequence[str], *, options: Mapping[str, Any] | None = None, **more: Any) -> Any:
    """Make a kombu connection to a broker or a fail-over list, by the settings. It connects when it is used.

    ``options`` are the transport's, where BROKER_TRANSPORT_OPTIONS says nothing else; ``more`` are arguments of kombu's class
    and win over the settings. Raises ImproperlyConfigured for what kombu can't use.
    """
    parts = [parse(url) for url in urls]
    options = {**(options or {}), **{name: value for name, value in settings.BROKER_TRANSPORT_OPTIONS.items() if name not in _OURS}}
    texts, tls = [part.text for part in parts], settings.BROKER_USE_SSL
    if parts[0].scheme in _AMQP and _UNANSWERED is not None:
        options.setdefault("socket_settings", {_UNANSWERED: _TCP_USER_TIMEOUT})
    if parts[0].scheme.partition("+")[0] in _REDIS:
        texts, tls, options = _for_redis(parts, options)
    arguments = {
        "ssl": tls,
        "connect_timeout": settings.BROKER_CONNECTION_TIMEOUT,
        "failover_strategy": settings.BROKER_FAILOVER_STRATEGY,
        "login_method": settings.BROKER_LOGIN_METHOD,
        # Nobody reads from these all the time, as heartbeats would ask for.
        "heartbeat": 0,
        **more,
        "transport_options": {**options, **(more.get("transport_options") or {})},
    }
    try:
        made = kombu.Connection(texts, **arguments)
        # Loads the transport.
        _ = made.transport_cls
        if parts[0].scheme.partition("+")[0] in _REDIS:
            # Where kombu can't read the URL, even a repr would raise, and quote half of the password.
            _ = made.as_uri()
    except (ImportError, NameError) as error:
        # kombu's module for Kafka uses names that it could not import.
        raise ImproperlyConfigured(missing_package(parts[0], error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"BROKER_URL {mask(urls)} can't be used: {told(error, urls)}") from None
    return made


def _for_redis(parts: Sequence[URL], options: dict[str, Any]) -> tuple[list[str], Any, dict[str, Any]]:
    """Say in kombu's words what redis-py understands: options in URLs, TLS without a word about certificates, unix sockets."""
    from django_tasks.redisaccess import tls_options

    first = parts[0]
    timeout = settings.BROKER_CONNECTION_TIMEOUT
    bounds = {"socket_timeout": timeout, "socket_connect_timeout": timeout, "socket_keepalive": True}
    options = {**bounds, "socket_keepalive_options": dict(_KEEPALIVE), **options}
    if master := first.options.get("master_name"):
        options.setdefault("master_name", master)
    in_url: dict[str, Any] = {name: value for name, value in first.options.items() if name.startswith("ssl_")}
    if "ssl_check_hostname" in in_url:
        in_url["ssl_check_hostname"] = in_url["ssl_check_hostname"].lower() not in {"false", "no", "0"}
    tls: Any = False
    if first.scheme == "rediss" or settings.BROKER_USE_SSL:
        # kombu would not look at the server's certificate where nothing is said.
        tls = {"ssl_cert_reqs": "required", **tls_options(settings.BROKER_USE_SSL or True), **tls_options(in_url)}
        tls.pop("ssl")
    return [_redis_text(part) for part in parts], tls, options


def _redis_text(url: URL) -> str:
    text = url.text.partition("?")[0]
    if url.scheme not in {"unix", "redis+socket"}:
        return text
    number = url.options.get("virtual_host") or url.options.get("db") or "0"
    return f"redis+socket://{text.partition('://')[2]}?virtual_host={number}"


def describe(error: BaseException) -> str:
    """Say what an error of a client library means."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = str(getattr(error, "reply_text", "") or error) or type(error).__name__
    if "acknowledgement" in text and "timed out" in text:
        return f"{text} (a message was held for longer than the server's consumer_timeout, and is given to others)"
    hint = next((hint for kind, hint in _HINTS if isinstance(error, kind)), "")
    if not hint and any(word in text for word in _REDIS_REFUSALS):
        hint = "wrong user or password"
    return f"{text} ({hint})" if hint else text


def is_refusal(error: BaseException) -> bool:
    """Whether the server lets this user in no more later than now: wrong credentials, an unknown virtual host."""
    return isinstance(error, amqp_errors.AccessRefused | amqp_errors.NotAllowed) or any(word in str(error) for word in _REDIS_REFUSALS)


def missing_package(url: URL, error: Exception) -> str:
    """Say what must be installed for a URL."""
    scheme = url.scheme.partition("+")[0]
    requirement = _REQUIREMENTS.get(scheme, f"kombu[{scheme}]")
    return f"BROKER_URL {mask(url.text)} needs a package that is not installed ({error}): pip install '{requirement}'"


class LocalConnection:
    """What ``app.connection()`` gives where the broker is a database or memory: a name, to hand on to ``app.events``.

    It can be opened, closed and used in ``with`` like a kombu connection, all of which does nothing; what only a message
    broker has, such as channels, raises AttributeError.
    """

    connected = True

    def __init__(self, url: str) -> None:
        self.url = url

    def as_uri(self, include_password: bool = False) -> str:
        """Return the URL."""
        return self.url if include_password else mask(self.url)

    def clone(self, **kwargs: Any) -> "LocalConnection":
        """Return another one."""
        return LocalConnection(self.url)

    def connect(self) -> "LocalConnection":
        """Do nothing: the Django database connection is made when it is used."""
        return self

    def ensure_connection(self, *args: Any, **kwargs: Any) -> "LocalConnection":
        """Do nothing."""
        return self

    def release(self) -> None:
        """Do nothing."""

    close = release

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.release()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(
            f"{self.as_uri()} is no message broker, so its connection has no {name!r}: there are no channels or exchanges."
            " app.send_task() sends, app.events.Receiver() hears"
        )

    def __repr__(self) -> str:
        return f"<LocalConnection: {self.as_uri()}>"


def open_connection(url: str | Sequence[str] | None = None, **options: Any) -> Any:
    """Make a connection to the broker of ``url`` (BROKER_URL): kombu's, or a ``LocalConnection``. Nothing connects yet."""
    urls = failover(settings.BROKER_URL if url is None else url)
    if not urls:
        raise ImproperlyConfigured("BROKER_URL is empty: give it a URL like 'db://default'")
    if is_local(urls):
        return LocalConnection(urls[0])
    return connection(urls, **{name: value for name, value in options.items() if value is not None})


class Line:
    """A connection, opened at first use, and once more where one that lay idle turns out to be broken. One thread at a time.

    A forked child opens one of its own: the parent's is left alone.
    """

    def __init__(self, maker: Callable[[], Any], where: str) -> None:
        """Take what makes a connection (``connection``, or another one's ``clone``) and its name, for messages."""
        self._maker = maker
        self._where = where
        self.lock = threading.RLock()
        self.connection: Any = None
        _lines.add(self)

    def using(self, doing: str, work: Callable[[], T]) -> T:
        """Do this with an open connection. Raises OperationalError."""
        while True:
            idle = False
            try:
                with self.lock:
                    idle = self.connection is not None
                    if not idle:
                        self.connection = self._connect()
                        self.connected()
                    return work()
            except TaskError:
                raise
            except Exception as error:
                # Each client library has errors of its own.
                self.drop()
                if isinstance(error, SoftTimeLimitExceeded):
                    raise
                if not idle:
                    raise OperationalError(f"{doing} failed at {self._where}: {describe(error)}") from error

    def _connect(self) -> Any:
        made = self._maker()
        try:
            # Each address once; how long that may take BROKER_CONNECTION_TIMEOUT says.
            made.ensure_connection(max_retries=max(0, len(made.alt) - 1), interval_start=0)
            bound_answers(made)
        except BaseException:
            made.release()
            raise
        return made

    def connected(self) -> None:
        """Prepare a fresh connection."""

    def drop(self) -> None:
        """Forget the connection; it may be broken."""
        with self.lock:
            connection, self.connection = self.connection, None
            if connection is not None:
                with suppress(Exception):
                    if connection.connected:
                        _bound(connection, _GOODBYE_WITHIN)
                    connection.release()

    close = drop

    def abandon(self) -> None:
        """Forget the connection without a word to the server: in a forked child it is the parent's, whose lock may be held for ever."""
        self.lock = threading.RLock()
        if self.connection is not None:
            # Kept for good: some clients say goodbye when their objects are deleted.
            _inherited.append(self.connection)
            self.connection = None


def bound_answers(opened: Any) -> None:
    """Let nothing wait for an answer of RabbitMQ for ever."""
    _bound(opened, max(_ANSWER_WITHIN, settings.BROKER_CONNECTION_TIMEOUT))


def _bound(opened: Any, seconds: float) -> None:
    transport = getattr(opened.connection, "transport", None)
    sock = getattr(transport, "sock", None)
    if opened.transport.driver_type == "amqp" and sock is not None:
        sock.settimeout(seconds)


def is_local(urls: Sequence[str]) -> bool:
    """Whether these are no message brokers, which kombu has nothing to connect to."""
    return any(parse(url).scheme in LOCAL for url in urls)


_lines: "weakref.WeakSet[Line]" = weakref.WeakSet()
_inherited: list[Any] = []


def _after_fork() -> None:
    for line in list(_lines):
        line.abandon()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

__all__ = ["Line", "LocalConnection", "connection", "describe", "is_local", "is_refusal", "kombu", "missing_package", "open_connection"]
