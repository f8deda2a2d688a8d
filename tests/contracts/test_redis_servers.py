"""Redis servers in every disguise, and in trouble: sockets, TLS, passwords, full memory, restarts, Sentinel."""

import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from django_tasks import clock
from django_tasks.brokers import open_broker
from django_tasks.brokers.broker import Broker
from django_tasks.events import event, open_channel
from django_tasks.exceptions import ImproperlyConfigured, OperationalError
from django_tasks.messages import Disposition, Settlement
from django_tasks.testing.broker_probes import envelope, names, settled
from tests.privateservers import PrivateRedis, free_port, need_redis_server
from tests.processes import SOON, wait_until

pytestmark = pytest.mark.redis


@pytest.fixture
def folder(tmp_path) -> Path:
    need_redis_server()
    return tmp_path


@pytest.fixture
def started() -> Iterator[Callable[[PrivateRedis], PrivateRedis]]:
    """Start servers that end with the test."""
    servers = []

    def started(server: PrivateRedis) -> PrivateRedis:
        servers.append(server)
        server.start()
        return server

    yield started
    for server in servers:
        server.kill()


@pytest.fixture
def opened(settings) -> Iterator[Callable[..., Broker]]:
    """Open brokers that end with the test."""
    brokers = []

    def opened(url, **options) -> Broker:
        settings.DJANGO_TASKS = options
        brokers.append(open_broker(url))
        return brokers[-1]

    yield opened
    for broker in brokers:
        broker.close()


def works(broker: Broker) -> None:
    """One message goes in and comes out, and a waiting consumer hears of another."""
    broker.publish([envelope("1")])
    with closing(broker.consume(["default"], consumer_id=uuid.uuid4().hex)) as consumer:
        got = consumer.receive(10, 10)
        consumer.settle(settled(got, Disposition.ACK))
        assert names(got) == ["1"]
        assert consumer.receive(1, 0.05) == []
        timer = threading.Timer(0.1, broker.publish, ([envelope("2")],))
        timer.start()
        got = consumer.receive(10, 10)
        timer.join()
        consumer.settle(settled(got, Disposition.ACK))
        assert names(got) == ["2"]


def tells(url) -> None:
    """An event that is sent is heard."""
    with closing(open_channel(url)) as channel, channel.listen() as receiver:
        said = event("shop-sold", "h", item="tea")
        channel.send([said])
        assert receiver.receive(10) == [said]


# --------------------------------------------------------------------------------------------------------- addresses


class Disguised(PrivateRedis):
    """A server that listens as it is told."""

    def __init__(self, folder: Path, *arguments: str, client: dict[str, object] | None = None, password: str = "") -> None:
        super().__init__(folder, password=password)
        self._arguments = arguments
        self._client = client or {}

    def _command(self) -> list[str]:
        return [*super()._command(), *self._arguments]

    def client(self):
        import redis

        return redis.Redis(**{"port": self.port, "password": self.password or None, "decode_responses": True, **self._client})


@pytest.mark.parametrize("url", ["redis+socket://{}?virtual_host=2", "unix://{}?db=2", "unix://{}"])
def test_a_unix_socket(folder, started, opened, url):
    """Celery's spelling and redis-py's; the query names the database."""
    server = started(Disguised(folder, "--unixsocket", str(folder / "s.sock")))
    broker = opened(url.format(folder / "s.sock"))
    assert broker.server.database == (2 if "2" in url else 0)
    works(broker)
    tells(url.format(folder / "s.sock"))
    with closing(server.client()) as client:
        assert client.config_get("port")["port"] == str(server.port)


def test_a_password(folder, started, opened):
    """With the right one all goes well; a wrong one, or none, is told at once, and where it belongs; it is never shown."""
    server = started(PrivateRedis(folder, password="right"))
    works(opened(server.url))
    tells(server.url)
    for url in (server.url.replace("right", "wrong-one"), server.url.replace(":right@", "")):
        broker = opened(url)
        begun = clock.monotonic()
        with pytest.raises(OperationalError, match="User and password stand in BROKER_URL") as caught:
            broker.publish([envelope("1")])
        assert clock.monotonic() - begun < SOON
        assert "wrong-one" not in str(caught.value)
        with pytest.raises(OperationalError, match="user or password") as caught:
            tells(url)
        assert "wrong-one" not in str(caught.value)
        with closing(broker.consume(["default"], consumer_id="c")) as consumer, pytest.raises(OperationalError, match="password"):
            consumer.receive(1, 5)


@pytest.fixture
def certificates(folder) -> Path:
    """An authority and a server's certificate for localhost."""

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    openssl(
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test authority"
    )
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl(
        *("x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2"),
        *("-extfile", "names", "-out", "server.crt"),
    )
    return folder


@pytest.fixture
def encrypted(certificates, started) -> PrivateRedis:
    port = free_port()
    arguments = [
        *("--tls-port", str(port), "--tls-cert-file", "server.crt", "--tls-key-file", "server.key", "--tls-ca-cert-file", "ca.crt"),
        *("--tls-auth-clients", "no"),
    ]
    server = Disguised(certificates, *[str(certificates / part) if part.endswith((".crt", ".key")) else part for part in arguments])
    started(server)
    server.port = port
    return server


@pytest.mark.parametrize(
    ("scheme", "query", "settings_of_tls"),
    [
        ("rediss", "", {"ssl_ca_certs": "ca.crt"}),
        ("redis", "", {"ssl_ca_certs": "ca.crt", "ssl_cert_reqs": 2}),
        ("redis", "", {"ca_certs": "ca.crt", "cert_reqs": "CERT_REQUIRED"}),
        ("rediss", "?ssl_cert_reqs=CERT_NONE", False),
        ("rediss", "?ssl_cert_reqs=required&ssl_ca_certs={folder}/ca.crt", False),
    ],
)
def test_tls(encrypted, certificates, opened, scheme, query, settings_of_tls):
    """By the scheme or by BROKER_USE_SSL, with options in the URL or in the setting, in Redis's words or in AMQP's."""
    if settings_of_tls:
        settings_of_tls = {name: str(certificates / value) if "ca_certs" in name else value for name, value in settings_of_tls.items()}
    url = f"{scheme}://127.0.0.1:{encrypted.port}/0{query.format(folder=certificates)}"
    broker = opened(url, BROKER_USE_SSL=settings_of_tls)
    works(broker)
    tells(url)
    broker.publish([envelope("big", body=bytes(3_000_000))])
    with closing(broker.consume(["default"], consumer_id="c")) as consumer:
        assert len(consumer.receive(1, 5)[0].envelope.body) == 3_000_000


def test_a_certificate_of_nobody_known(encrypted, opened):
    """Without the authority the server isn't believed."""
    broker = opened(f"rediss://127.0.0.1:{encrypted.port}/0")
    with pytest.raises(OperationalError, match=r"(?i)certificate"):
        broker.publish([envelope("1")])
    with pytest.raises(OperationalError, match=r"(?i)certificate"):
        tells(f"rediss://127.0.0.1:{encrypted.port}/0")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://127.0.0.1:1/0?nonsense=1", "nonsense"),
        ("sentinel://127.0.0.1:26379", "master_name"),
        ("redis://127.0.0.1:notaport/0", "BROKER_URL"),
    ],
)
def test_a_url_that_makes_no_sense(opened, url, said):
    """The setting is named, and what is wrong with it."""
    with pytest.raises(ImproperlyConfigured, match=said):
        opened(url).publish([envelope("1")])


def test_the_first_address_that_answers(folder, started, opened):
    """A fail-over list: who doesn't answer is passed over at the next call."""
    server = started(PrivateRedis(folder))
    broker = opened([f"redis://127.0.0.1:{free_port()}/0", server.url])
    with pytest.raises(OperationalError, match="refused"):
        broker.publish([envelope("1")])
    works(broker)


# ----------------------------------------------------------------------------------------------------------- trouble


def test_a_full_server_is_worked_off(folder, started, opened):
    """Nobody can publish, but what is there is claimed, renewed, given back, delayed, promoted and settled; then there is room again."""
    server = started(PrivateRedis(folder))
    broker = opened(server.url)
    body = bytes(100_000)
    broker.publish([envelope(str(number), body=body) for number in range(20)])
    broker.publish([envelope("later", body=body, not_before=clock.after(0.1))])
    with closing(server.client()) as client, closing(broker.consume(["default"], consumer_id="c")) as consumer:
        used = client.info("memory")["used_memory"]
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", used - 1_000_000)
        for count in (1, 2):
            with pytest.raises(OperationalError, match="memory is full"):
                broker.publish([envelope("no")] * count)
        seen: list[str] = []
        got = consumer.receive(10, 5)
        consumer.extend(got)
        consumer.settle([Settlement(got[0], Disposition.REQUEUE), Settlement(got[1], Disposition.DELAY, until=clock.after(0.1))])
        assert broker.recover(clock.after(10_000), limit=1) == 1
        consumer.settle(settled(got[3:], Disposition.ACK))
        seen += names(got[3:])
        while len(seen) < 21 and (got := consumer.receive(10, 3)):
            consumer.settle(settled(got, Disposition.ACK))
            seen += names(got)
        assert sorted(seen) == sorted([*(str(number) for number in range(20)), "later"])
        assert client.info("memory")["used_memory"] < used - 1_000_000
        broker.publish([envelope("yes")])
        assert names(consumer.receive(1, 5)) == ["yes"]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_server_that_comes_back(folder, started, opened, end):
    """Calls fail while it is away, say so, and work when it is back; what was held is given back by its lease."""
    server = started(PrivateRedis(folder, durable=True))
    broker = opened(server.url)
    broker.publish([envelope("1"), envelope("2")])
    with closing(broker.consume(["default"], consumer_id="c")) as consumer:
        held = consumer.receive(1, 5)
        getattr(server, end)()
        for call in (
            lambda: broker.publish([envelope("3")]),
            lambda: consumer.receive(1, 5),
            lambda: consumer.settle(settled(held, Disposition.ACK)),
            lambda: consumer.extend(held),
            lambda: broker.size("default"),
        ):
            with pytest.raises(OperationalError, match=str(server.port)):
                call()
        server.start()
        consumer.settle(settled(held, Disposition.ACK))
        broker.publish([envelope("4")])
        assert names(consumer.receive(10, 5)) == ["2", "4"]
        assert broker.recover(clock.after(10_000), limit=10) == 2


def test_a_wait_ends_with_its_server(folder, started, opened):
    """Who waits for a bell hears that the server has gone."""
    server = started(PrivateRedis(folder))
    with closing(opened(server.url).consume(["default"], consumer_id="c")) as consumer:
        assert consumer.receive(1, 0.05) == []
        timer = threading.Timer(0.2, server.kill)
        timer.start()
        begun = clock.monotonic()
        with pytest.raises(OperationalError):
            consumer.receive(1, 60)
        assert clock.monotonic() - begun < SOON
        timer.join()


def test_connections_are_bounded(folder, started, opened):
    """BROKER_POOL_LIMIT holds for all threads together, and who gets none in time is told why."""
    server = started(PrivateRedis(folder))
    broker = opened(server.url, BROKER_POOL_LIMIT=2, BROKER_POOL_ACQUIRE_TIMEOUT=2)
    threads = [threading.Thread(target=broker.publish, args=([envelope(str(number))],)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    with closing(server.client()) as client:
        assert len([one for one in client.client_list() if one["name"] == "django_tasks"]) <= 2
    with broker._lines.line("one"), broker._lines.line("two"), pytest.raises(OperationalError, match="BROKER_POOL_LIMIT"):
        broker.size("default")
    assert broker.size("default") == 20


# ---------------------------------------------------------------------------------------------------------- Sentinel


class SentinelProcess(PrivateRedis):
    """A sentinel that watches a master."""

    def __init__(self, folder: Path, master: PrivateRedis) -> None:
        super().__init__(folder)
        self._file = folder / "sentinel.conf"
        self._file.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {folder}\nsentinel monitor themaster 127.0.0.1 {master.port} 2\n"
            "sentinel down-after-milliseconds themaster 500\nsentinel failover-timeout themaster 3000\n"
        )

    def _command(self) -> list[str]:
        return ["redis-server", str(self._file), "--sentinel"]


@pytest.mark.slow
def test_sentinel_fails_over(folder, started, opened):
    """The master dies; its replica is promoted; broker and consumer go on there, with the messages that were replicated."""
    master = started(PrivateRedis(folder / "master"))
    replica = PrivateRedis(folder / "replica")
    command = replica._command()
    replica._command = lambda: [*command, "--replicaof", "127.0.0.1", str(master.port)]  # type: ignore[method-assign]
    started(replica)
    sentinels = [started(SentinelProcess(folder / f"sentinel{number}", master)) for number in range(3)]
    with closing(replica.client()) as client:
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the replica to follow")
    for sentinel in sentinels:
        with closing(sentinel.client()) as client:
            wait_until(lambda client=client: client.sentinel_masters()["themaster"]["num-other-sentinels"] == 2, "the sentinels to meet")
            wait_until(lambda client=client: client.sentinel_masters()["themaster"]["num-slaves"] == 1, "the sentinels to see the replica")
    urls = [f"sentinel://127.0.0.1:{sentinel.port}/0" for sentinel in sentinels]
    broker = opened(urls, BROKER_TRANSPORT_OPTIONS={"master_name": "themaster", "min_other_sentinels": 1})
    works(broker)
    tells(urls)
    broker.publish([envelope("before")])
    with closing(master.client()) as client:
        assert client.wait(1, 5000) == 1
    with closing(broker.consume(["default"], consumer_id="c")) as consumer:
        assert names(consumer.receive(1, 5)) == ["before"]
        with closing(master.client()) as client:
            client.wait(1, 5000)
        master.kill()
        sentinels[0].kill()
        wait_until(lambda: published(broker), "the replica to be promoted", deadline=60)
        received: list[str] = []

        def receives() -> bool:
            with suppress(OperationalError):
                received.extend(names(consumer.receive(10, 1)))
            return "after" in received

        wait_until(receives, "the consumer to find the new master")
    # What was held is still there, by the new master's word.
    assert broker.recover(clock.after(10_000), limit=10) == 2
    # Whose first URL is a sentinel that was shot.
    tells(urls)


def published(broker: Broker) -> bool:
    try:
        broker.publish([envelope("after")])
    except OperationalError:
        time.sleep(0.2)
        return False
    return True
