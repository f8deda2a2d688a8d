"""Redis servers: one client for a URL or a fail-over list, and what its errors mean to a user.

Servers, sockets, TLS and Sentinel are reached alike; the broker and the result backend differ in what they then do.
"""

import logging
import os
import ssl
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, Final

from django_tasks.exceptions import ImproperlyConfigured, OperationalError, ServerFullError, ServerRefusedError

try:
    import redis
except ImportError as error:
    raise ImproperlyConfigured(
        "redis:// and its kin need the package redis, which is not installed: pip install 'django-tasks-engine[redis]'"
    ) from error

from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, AuthorizationError, OutOfMemoryError, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry
from redis.sentinel import Sentinel

from django_tasks.urls import URL, told

logger = logging.getLogger("django_tasks.redis")

SENTINEL_PORT: Final = 26379
#: What redis-py tells servers of itself. For each connection it would look up its own version anew, in the package's metadata.
_DRIVER: Final = {"driver_info": redis.DriverInfo(lib_version=redis.__version__)} if hasattr(redis, "DriverInfo") else {}
_FOR_SENTINELS: Final = frozenset({"master_name", "sentinel_kwargs", "min_other_sentinels", "ssl"})
_CERTIFICATES: Final = {"CERT_NONE": "none", "CERT_OPTIONAL": "optional", "CERT_REQUIRED": "required"}
_SSL_MODES: Final = {ssl.CERT_NONE: "none", ssl.CERT_OPTIONAL: "optional", ssl.CERT_REQUIRED: "required"}


class RedisServer:
    """The server of the first URL that answers. Safe for threads; nothing connects before the first command."""

    def __init__(self, urls: Sequence[URL], settings: Mapping[str, Any], *, setting: str) -> None:
        """Take the addresses and redis-py's own options: ``socket_timeout``, ``max_connections``, ``ssl_ca_certs`` ...

        ``settings`` may also hold ``master_name`` and ``sentinel_kwargs`` for Sentinel. ``setting`` names what a
        project would change, for messages.
        """
        self.urls = list(urls)
        self.setting = setting
        self._options = dict(settings)
        self._lock = Lock()
        self._at = 0
        self._clients: dict[int, Any] = {}
        _servers.add(self)

    @property
    def client(self) -> Any:
        """The client of the address that is in use (``redis.Redis``; replies are bytes)."""
        at = self._at
        client = self._clients.get(at)
        if client is None:
            with self._lock:
                client = self._clients.get(at) or self._clients.setdefault(at, self._open(self.urls[at]))
        return client

    def connection(self) -> Any:
        """Make a connection of its own to the address in use, beside the client's pool. It connects when something is sent."""
        return self._connection(self.client, self.urls[self._at])

    def check(self) -> None:
        """Raise ImproperlyConfigured for an address or an option that can't be used. Connects to nothing."""
        # Of sentinels, the list is one address.
        for url in self.urls[:1] if self.urls[0].scheme.startswith("sentinel") else self.urls:
            self._connection(self._open(url), url)

    @property
    def memory(self) -> str:
        """Name the memory in use: two databases of one server share it."""
        options = self.client.connection_pool.connection_kwargs
        return str(options.get("path") or options.get("service_name") or f"{options.get('host')}:{options.get('port')}")

    @property
    def database(self) -> int:
        """Number of the database in use: part of the names of pub/sub channels."""
        return int(self.client.connection_pool.connection_kwargs.get("db") or 0)

    @contextmanager
    def reaching(self, doing: str) -> Iterator[Any]:
        """Give the client; what goes wrong with it is raised as OperationalError, and the next call tries the next address."""
        at = self._at
        try:
            yield self.client
        except RedisError as error:
            raise self.failure(error, doing, at) from error

    def _connection(self, client: Any, url: URL) -> Any:
        pool = client.connection_pool
        try:
            return pool.connection_class(**pool.connection_kwargs)
        except (TypeError, ValueError) as error:
            raise ImproperlyConfigured(f"{self.setting}: {url} has an option that redis-py can't use: {told(error, url.text)}") from None

    @property
    def at(self) -> int:
        """Number of the address in use, for ``failure``."""
        return self._at

    def failure(self, error: RedisError, doing: str, at: int) -> OperationalError:
        """Say what went wrong with address ``at``; when it does not answer, turn to the next one."""
        if isinstance(error, RedisConnectionError | RedisTimeoutError) and not isinstance(error, AuthenticationError):
            self._turn_from(at)
        what = str(error).rstrip(".") or type(error).__name__
        kind = ServerFullError if _is_full(error) else ServerRefusedError if _is_refusal(error) else OperationalError
        return kind(f"{doing} failed at {self.urls[at]}: {what}.{_hint(error, self.setting)}")

    def close(self) -> None:
        """Close all connections; the next command opens new ones."""
        with self._lock:
            clients, self._clients = self._clients, {}
        for client in clients.values():
            client.connection_pool.disconnect()

    def forget(self) -> None:
        """Forget all connections without closing them: in a forked child they are the parent's, whose lock may be held for ever."""
        self._lock = Lock()
        self._clients = {}

    def _turn_from(self, at: int) -> None:
        # Of sentinels, the list is one address.
        if len(self.urls) > 1 and not self.urls[0].scheme.startswith("sentinel"):
            with self._lock:
                if self._at == at:
                    self._at = (at + 1) % len(self.urls)
                    logger.warning("%s does not answer; turning to %s", self.urls[at], self.urls[self._at])

    def _open(self, url: URL) -> Any:
        # What is to be tried again is decided above, where it is known what was being done; redis-py would also wait.
        options: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "health_check_interval": 25, "client_name": "django_tasks", **_DRIVER}
        options |= {name: value for name, value in self._options.items() if name not in _FOR_SENTINELS}
        options |= tls_options(self._options.get("ssl"))
        try:
            _check_database(url)
            if url.scheme.startswith("sentinel"):
                return self._through_sentinel(url, options)
            # From here on it is the scheme that says TLS.
            encrypted = options.pop("ssl", False) and url.scheme == "redis"
            text = _for_redis_py(url)
            return redis.Redis.from_url(f"rediss{text[5:]}" if encrypted else text, **options)
        except (ValueError, TypeError) as error:
            raise ImproperlyConfigured(f"{self.setting}: {url} can't be used: {told(error, url)}") from None

    def _through_sentinel(self, url: URL, options: dict[str, Any]) -> Any:
        name = self._options.get("master_name") or url.options.get("master_name")
        if not name:
            raise ImproperlyConfigured(
                f"{self.setting}: {url} needs the name of the master that the sentinels watch, as 'master_name' in the transport options"
            )
        addresses = [_sentinel_address(one) for one in self.urls]
        sentinel: Any = Sentinel(  # type: ignore[no-untyped-call]
            addresses,
            min_other_sentinels=int(self._options.get("min_other_sentinels", 0)),
            sentinel_kwargs={"socket_timeout": 2.0, **(self._options.get("sentinel_kwargs") or {})},
            db=int(url.path or 0),
            username=url.username,
            password=url.password,
            **options,
        )
        return sentinel.master_for(str(name))


_servers: "weakref.WeakSet[RedisServer]" = weakref.WeakSet()


def _after_fork() -> None:
    for server in list(_servers):
        server.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _sentinel_address(url: URL) -> tuple[str, int]:
    return url.host or "127.0.0.1", url.port or SENTINEL_PORT


def _check_database(url: URL) -> None:
    # redis-py takes a path that is no number for database 0, without a word.
    if not (url.scheme in {"redis+socket", "unix"} or url.path == "" or url.path.isdecimal()):
        raise ValueError(f"its path {url.path!r} is no number of a database; redis://host:6379/0 is the first one")


def _for_redis_py(url: URL) -> str:
    """Spell a URL as redis-py reads it: Celery writes redis+socket:///path?virtual_host=1, and CERT_NONE."""
    text = url.text
    if url.scheme in {"redis+socket", "unix"}:
        text = "unix://" + text.partition("://")[2].replace("virtual_host=", "db=")
    for celerys, value in _CERTIFICATES.items():
        text = text.replace(f"ssl_cert_reqs={celerys}", f"ssl_cert_reqs={value}")
    return text


def tls_options(given: Any) -> dict[str, Any]:
    """Read BROKER_USE_SSL and REDIS_BACKEND_USE_SSL: True, or redis-py's ssl_... options with the ssl module's constants.

    AMQP's names for them, which have no ``ssl_`` before them, are taken as well.
    """
    if not given:
        return {}
    words = given if isinstance(given, Mapping) else {}
    options = {name if name.startswith("ssl_") else f"ssl_{name}": value for name, value in words.items()}
    mode = options.get("ssl_cert_reqs")
    if mode in _SSL_MODES or mode in _CERTIFICATES:
        options["ssl_cert_reqs"] = _SSL_MODES.get(mode) or _CERTIFICATES.get(str(mode))
    return {**options, "ssl": True}


def _is_full(error: RedisError) -> bool:
    text = str(error)
    # redis-py takes the word OOM off the message.
    return isinstance(error, OutOfMemoryError) or (isinstance(error, ResponseError) and ("OOM" in text or "'maxmemory'" in text))


def _is_refusal(error: RedisError) -> bool:
    text = str(error)
    return isinstance(error, AuthenticationError | AuthorizationError) or "NOAUTH" in text or "WRONGPASS" in text


def _hint(error: RedisError, setting: str) -> str:
    if _is_refusal(error):
        return f" User and password stand in {setting}: redis://user:password@host:6379/0."
    if _is_full(error):
        return " The server's memory is full (maxmemory) and it may evict nothing; what waits in it can still be worked off."
    return ""
