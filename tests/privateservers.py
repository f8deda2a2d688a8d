"""Servers of a test's own, which it may stop, kill and starve: Redis and RabbitMQ, on free ports and in a folder of the test."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest
import redis

#: Seconds in which a server must have started. RabbitMQ takes ten on two busy cores.
STARTS_IN = 90.0
RABBITMQ_SCRIPTS = Path("/usr/lib/rabbitmq/bin")


def free_port() -> int:
    """Name a port that nobody listens on now."""
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        return int(found.getsockname()[1])


class PrivateServer:
    """A server process with a folder of its own, which survives its stops."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, with the data that it had; return when it answers."""
        with (self.folder / "output.log").open("ab") as log:
            self.process = subprocess.Popen(self._command(), env=self._environment(), stdout=log, stderr=log, start_new_session=True)
        self._wait(self._answers, "to answer")

    def stop(self) -> None:
        """Shut it down the friendly way."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill -9."""
        self._end(signal.SIGKILL)

    def _end(self, number: int) -> None:
        process, self.process = self.process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.send_signal(number)
            try:
                process.wait(60)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + STARTS_IN
        while not condition():
            process = self.process
            if time.monotonic() > end or process is None or process.poll() is not None:
                said = (self.folder / "output.log").read_text(errors="replace")[-3000:]
                pytest.fail(f"waited in vain for {type(self).__name__} at port {self.port} {what}; it said:\n{said}")
            time.sleep(0.05)

    def _command(self) -> list[str]:
        raise NotImplementedError

    def _environment(self) -> dict[str, str]:
        return dict(os.environ)

    def _answers(self) -> bool:
        raise NotImplementedError


class PrivateRedis(PrivateServer):
    """``redis-server``; with ``durable`` it keeps every write over a kill -9."""

    def __init__(self, folder: Path, *, durable: bool = False, password: str = "") -> None:
        super().__init__(folder)
        self.durable = durable
        self.password = password

    @property
    def url(self) -> str:
        """Database 0."""
        return f"redis://{':' + self.password + '@' if self.password else ''}127.0.0.1:{self.port}/0"

    def client(self) -> redis.Redis:
        """Open a client, to be closed by the caller."""
        return redis.Redis.from_url(self.url, socket_timeout=30, decode_responses=True)

    def _command(self) -> list[str]:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder), "--save", ""]
        if self.durable:
            command += ["--appendonly", "yes", "--appendfsync", "always"]
        if self.password:
            command += ["--requirepass", self.password]
        return command

    def _answers(self) -> bool:
        with closing(self.client()) as client:
            try:
                # Raises BusyLoadingError, too, while it reads its file.
                return bool(client.ping())
            except redis.RedisError:
                return False


class PrivateRabbitMQ(PrivateServer):
    """A RabbitMQ node with a cookie, a database and a name of its own, beside the machine's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._distribution_port = free_port()

    @property
    def url(self) -> str:
        """The default virtual host."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def node(self) -> str:
        """Its name for rabbitmqctl."""
        return f"tests{self.port}@localhost"

    def control(self, *arguments: str) -> str:
        """``rabbitmqctl`` on this node; returns what it printed."""
        command = [str(RABBITMQ_SCRIPTS / "rabbitmqctl"), "-q", "-n", self.node, *arguments]
        done = subprocess.run(command, env=self._environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"rabbitmqctl {arguments}: {done.stdout}{done.stderr}"
        return done.stdout

    def _command(self) -> list[str]:
        plugins = self.folder / "enabled_plugins"
        plugins.write_text("[].\n")
        return [str(RABBITMQ_SCRIPTS / "rabbitmq-server")]

    def _environment(self) -> dict[str, str]:
        folder = str(self.folder)
        return {
            "PATH": os.environ["PATH"],
            # Where Erlang looks for the cookie, and makes one.
            "HOME": folder,
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_MNESIA_BASE": f"{folder}/mnesia",
            "RABBITMQ_LOG_BASE": f"{folder}/log",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_CONFIG_FILE": f"{folder}/none",
            "RABBITMQ_CONF_ENV_FILE": f"{folder}/none.conf",
            # Three nodes of these fit beside the tests on two cores.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 2:2 +sbwt none",
            "RABBITMQ_CTL_ERL_ARGS": "+S 1:1",
        }

    def _answers(self) -> bool:
        from kombu import Connection
        from kombu.exceptions import OperationalError

        try:
            with Connection(self.url, connect_timeout=2) as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=3)
        except (OperationalError, OSError):
            return False
        return True


def need_redis_server() -> None:
    """Skip by name where no Redis can be started."""
    if shutil.which("redis-server") is None:
        pytest.skip("no redis-server here: it is part of the package of that name (Debian: apt install redis-server)")


def need_rabbitmq_server() -> None:
    """Skip by name where no RabbitMQ can be started."""
    if not (RABBITMQ_SCRIPTS / "rabbitmq-server").exists():
        pytest.skip(f"no {RABBITMQ_SCRIPTS}/rabbitmq-server here: it is part of the package rabbitmq-server")


@contextmanager
def private_redis(folder: Path) -> Iterator[PrivateRedis]:
    """Run a Redis server for the time of the block; skip the test where none is installed."""
    need_redis_server()
    server = PrivateRedis(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
