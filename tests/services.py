"""Which servers answer here: on their standard ports, or at the address that a variable names."""

import os
import socket
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Service:
    """A server that some tests need, and where it is looked for."""

    name: str
    variable: str
    default: str
    port: int

    @property
    def url(self) -> str:
        """The address: the variable's, or the one of a fresh local installation."""
        return os.environ.get(self.variable) or self.default


SERVICES = {
    service.name: service
    for service in (
        Service("postgres", "DATABASE_URL_POSTGRES", "postgres://postgres@127.0.0.1:5432/postgres", 5432),
        Service("mysql", "DATABASE_URL_MYSQL", "mysql://root@127.0.0.1:3306/mysql", 3306),
        Service("redis", "REDIS_URL", "redis://127.0.0.1:6379/0", 6379),
        Service("rabbitmq", "AMQP_URL", "amqp://guest:guest@127.0.0.1:5672//", 5672),
    )
}


@cache
def missing(name: str) -> str | None:
    """Say why a service can't be used here; None if it can."""
    service = SERVICES[name]
    parts = urlsplit(service.url)
    place = parts.hostname or "127.0.0.1", parts.port or service.port
    try:
        socket.create_connection(place, timeout=5).close()
    except OSError as error:
        return f"no {name} at {place[0]}:{place[1]} ({error}); set {service.variable} to use another"
    try:
        _try(name, service.url)
    except Exception as error:
        return f"{name} at {place[0]}:{place[1]} can't be used ({error}); set {service.variable} to use another"
    return None


@cache
def missing_package(module: str) -> str | None:
    """Say that a package of the extra test-all isn't installed; None if it is."""
    return None if find_spec(module) else f'no package {module}; it comes with pip install -e ".[test-all]"'


def _try(name: str, url: str) -> None:
    parts = urlsplit(url)
    if name == "postgres":
        import psycopg

        psycopg.connect(url.replace("postgres://", "postgresql://", 1), connect_timeout=10).close()
    elif name == "mysql":
        import MySQLdb

        connection = MySQLdb.connect(
            host=parts.hostname or "127.0.0.1",
            port=parts.port or 3306,
            user=parts.username or "root",
            password=parts.password or "",
            connect_timeout=10,
        )
        with closing(connection):
            connection.ping()
    elif name == "redis":
        import redis

        with closing(redis.Redis.from_url(url, socket_timeout=10, socket_connect_timeout=10)) as client:
            client.ping()
    elif name == "rabbitmq":
        from kombu import Connection

        with Connection(url, connect_timeout=10) as connection:
            # Opens it: a wrong password or a missing virtual host shows now.
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=20)
