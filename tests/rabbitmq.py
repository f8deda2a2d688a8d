"""RabbitMQ for tests: a virtual host of their own where rabbitmqctl can make one, and queues that go away."""

import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import amqp

from tests.services import SERVICES


def rabbitmqctl(*arguments: str) -> str:
    """Run a command of the server's administrator; return what it printed. Raises CalledProcessError."""
    done = subprocess.run(["rabbitmqctl", "-q", *arguments], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


@contextmanager
def virtual_host() -> Iterator[str]:
    """Make a virtual host; give the URL of it. Without rabbitmqctl, give the server's URL as it is."""
    parts = urlsplit(SERVICES["rabbitmq"].url)
    # One process may have several at a time.
    name = f"tests-{os.getpid()}-{uuid4().hex[:8]}"
    try:
        if shutil.which("rabbitmqctl") is None:
            raise OSError("no rabbitmqctl")
        rabbitmqctl("add_vhost", name)
        rabbitmqctl("set_permissions", "-p", name, parts.username or "guest", ".*", ".*", ".*")
    except (OSError, subprocess.SubprocessError):
        yield SERVICES["rabbitmq"].url
        return
    try:
        yield urlunsplit(parts._replace(path=f"/{name}"))
    finally:
        rabbitmqctl("delete_vhost", name)


def connection(url: str) -> amqp.Connection:
    """Open a connection of py-amqp's."""
    parts = urlsplit(url)
    host = parts.path[1:] or "/"
    opened = amqp.Connection(
        f"{parts.hostname}:{parts.port or 5672}",
        userid=parts.username or "guest",
        password=parts.password or "guest",
        virtual_host=host,
        connect_timeout=5,
    )
    opened.connect()
    return opened


def delete_queues(url: str, names: Iterable[str]) -> None:
    """Delete queues, and the exchanges of their names."""
    with connection(url) as opened:
        channel = opened.channel()
        for name in names:
            channel.queue_delete(name)
            channel.exchange_delete(name)
