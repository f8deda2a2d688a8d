"""A worker while its broker is away, cut off, starved or mute: it goes on by itself and loses nothing."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest

from django_tasks import brokers, group
from django_tasks.exceptions import OperationalError
from django_tasks.messages import Disposition, Settlement
from django_tasks.models import Message
from django_tasks.worker import keepingaside
from tests.places import RABBITMQ, REDIS, Place, open_place
from tests.privateservers import PrivateRabbitMQ, PrivateRedis, need_rabbitmq_server, need_redis_server
from tests.processes import SOON, StartWorker, wait_until
from tests.proxy import Proxy
from tests.sampleapp import tasks
from tests.sampleapp.models import Effect

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True, databases=["default"])]

TASKS = 300
#: Seconds in which a worker must run tasks again after its broker is back.
BACK_IN = 50.0


@dataclass
class Relayed:
    """A place whose broker is reached through a relay."""

    place: Place
    proxy: Proxy


@pytest.fixture(params=[REDIS, RABBITMQ])
def relayed(request: pytest.FixtureRequest, transactional_db: None, settings: Any, child_environment: dict[str, str]) -> Iterator[Relayed]:
    """A shared server behind a relay of this test: its results go the same way on Redis, and to SQLite on RabbitMQ."""
    with open_place(request.param) as place:
        parts = urlsplit(place.broker_url)
        with Proxy(parts.hostname or "127.0.0.1", parts.port or {"redis": 6379}.get(parts.scheme, 5672)) as proxy:
            user = parts.netloc.rpartition("@")[0]
            there = urlunsplit(parts._replace(netloc=f"{user + '@' if user else ''}127.0.0.1:{proxy.port}"))
            direct, place.broker_url = place.broker_url, there
            if place.result_backend == direct:
                place.result_backend = there
            place.use(settings, child_environment)
            yield Relayed(place, proxy)
            brokers.reset()


def seen() -> int:
    """How many of the tasks have left their effect."""
    return Effect.objects.values("key").distinct().count()


def send_naps() -> Any:
    """A drain of some seconds: the names of its effects tell whether each task has run."""
    return group(tasks.nap.s(0.02, f"nap {number}") for number in range(TASKS)).apply_async()


def check_all_ran(results: Any, place: Place, worker: Any) -> None:
    """Every effect and every result is there, no message is left, and the worker is the process that it was."""
    wait_until(lambda: seen() == TASKS, f"all effects; the worker said:\n{worker.output[-5000:]}", 60)
    assert results.get(timeout=50) == [0.02] * TASKS
    wait_until(lambda: place.left() == 0, "the queue to be empty")
    assert worker.process.poll() is None, worker.output


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_broker_that_goes_away_for_three_seconds(start_worker: StartWorker, relayed: Relayed, pool: str) -> None:
    """In the middle of a drain: callers are told, no task is lost, and the worker goes on by itself soon after."""
    worker = start_worker("-P", pool, "-c", "2")
    results = send_naps()
    wait_until(lambda: seen() > 10, f"some tasks to run; the worker said:\n{worker.output}")
    relayed.proxy.close()
    begun = time.monotonic()
    with pytest.raises(OperationalError):
        tasks.add.delay(1, 2)
    assert time.monotonic() - begun < SOON
    time.sleep(max(0.0, 3 - (time.monotonic() - begun)))
    before = seen()
    relayed.proxy.open()
    wait_until(lambda: seen() > before, f"more tasks to run; the worker said:\n{worker.output[-5000:]}", BACK_IN)
    check_all_ran(results, relayed.place, worker)
    assert "can't be reached" in worker.output
    assert tasks.add.delay(1, 2).get(timeout=50) == 3


def test_connections_that_are_cut_again_and_again(start_worker: StartWorker, relayed: Relayed) -> None:
    """Five times during a drain, publisher's and worker's alike: nothing is lost, and publishing does not notice."""
    worker = start_worker("-c", "2")
    results = send_naps()
    for number in range(5):
        before = seen()
        relayed.proxy.cut()
        assert tasks.add.delay(number, 1).id
        wait_until(
            lambda before=before: seen() > before or seen() == TASKS, f"more tasks; the worker said:\n{worker.output[-5000:]}", BACK_IN
        )
    check_all_ran(results, relayed.place, worker)


def test_a_network_that_swallows_everything_for_five_seconds(start_worker: StartWorker, relayed: Relayed) -> None:
    """What was under way arrives late, and nothing is lost; the worker's processes are not taken for dead."""
    worker = start_worker("-c", "2")
    results = send_naps()
    wait_until(lambda: seen() > 10, f"some tasks to run; the worker said:\n{worker.output}")
    relayed.proxy.stall()
    time.sleep(5)
    relayed.proxy.flow()
    check_all_ran(results, relayed.place, worker)


def test_a_worker_that_starts_before_its_broker(start_worker: StartWorker, relayed: Relayed) -> None:
    """It says what it waits for, waits, and works as soon as the broker is there."""
    relayed.proxy.close()
    worker = start_worker("-c", "1")
    worker.says("can't be reached")
    relayed.proxy.open()
    assert tasks.add.delay(1, 2).get(timeout=50) == 3


def test_a_worker_stops_while_its_broker_is_away(start_worker: StartWorker, relayed: Relayed) -> None:
    """SIGTERM is obeyed although nothing can be given back; whoever works next runs what was left."""
    worker = start_worker("-c", "1", TEST_WORKER_LEASE="2")
    running = tasks.nap.delay(0.5, "held")
    wait_until(Effect.objects.exists, "the task to run")
    relayed.proxy.close()
    worker.signal(15)
    worker.ends()
    relayed.proxy.open()
    start_worker("-c", "1", TEST_WORKER_LEASE="2")
    assert running.get(timeout=50) == 0.5
    assert tasks.add.delay(1, 2).get(timeout=50) == 3


def test_a_wrong_password_is_said_clearly(start_worker: StartWorker, relayed: Relayed, tmp_path: Path, settings: Any) -> None:
    """The caller gets OperationalError after its retries, the worker's log says why it does not work; neither shows the password."""
    place = relayed.place
    wrong = urlsplit(place.broker_url)
    server = None
    user = "guest" if place.name == "rabbitmq" else ""
    if place.name == "redis":
        need_redis_server()
        server = PrivateRedis(tmp_path, password="right")
        server.start()
        wrong = urlsplit(server.url)
    url = urlunsplit(wrong._replace(netloc=f"{user}:not-it@{wrong.hostname}:{wrong.port}"))
    try:
        settings.DJANGO_TASKS = {**settings.DJANGO_TASKS, "BROKER_URL": url, "RESULT_BACKEND": "db://default"}
        begun = time.monotonic()
        with pytest.raises(OperationalError) as caught:
            tasks.add.delay(1, 2)
        assert time.monotonic() - begun < SOON
        assert "password" in str(caught.value)
        worker = start_worker("-c", "1", TEST_BROKER_URL=url, TEST_RESULT_BACKEND="db://default")
        worker.says("password")
        assert "not-it" not in str(caught.value) + worker.output
    finally:
        if server is not None:
            server.stop()


def test_a_message_of_twenty_megabytes(start_worker: StartWorker, relayed: Relayed) -> None:
    """It is sent, run and answered like any other, and those behind it, too."""
    size = 20_000_000
    start_worker("-c", "1")
    large, small = tasks.length.delay("x" * size), tasks.add.delay(1, 2)
    assert large.get(timeout=60) == size
    assert small.get(timeout=50) == 3


# ---- servers of the test's own


@pytest.fixture
def own_redis(transactional_db: None, tmp_path: Path) -> Iterator[PrivateRedis]:
    """A Redis that keeps every write over a kill -9."""
    need_redis_server()
    server = PrivateRedis(tmp_path / "redis", durable=True)
    server.start()
    yield server
    brokers.reset()
    server.kill()


@pytest.fixture
def on_own_redis(own_redis: PrivateRedis, settings: Any, child_environment: dict[str, str]) -> Place:
    """Messages and results there."""
    place = Place("redis", own_redis.url, own_redis.url)
    place.use(settings, child_environment)
    return place


@pytest.mark.redis
def test_redis_is_killed_and_started_again(start_worker: StartWorker, own_redis: PrivateRedis, on_own_redis: Place) -> None:
    """Kill -9 of a server that writes every change to its disk, in the middle of a drain: nothing is lost."""
    worker = start_worker("-c", "2")
    results = send_naps()
    wait_until(lambda: seen() > 10, f"some tasks to run; the worker said:\n{worker.output}")
    own_redis.kill()
    with pytest.raises(OperationalError):
        tasks.add.delay(1, 2)
    before = seen()
    own_redis.start()
    wait_until(lambda: seen() > before, f"more tasks to run; the worker said:\n{worker.output[-5000:]}", BACK_IN)
    check_all_ran(results, on_own_redis, worker)


@pytest.mark.redis
def test_clients_that_redis_kills(start_worker: StartWorker, own_redis: PrivateRedis, on_own_redis: Place) -> None:
    """CLIENT KILL of every connection, five times during a drain."""
    worker = start_worker("-c", "2")
    results = send_naps()
    with closing(own_redis.client()) as admin:
        for _ in range(5):
            before = seen()
            admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            admin.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
            wait_until(lambda before=before: seen() > before or seen() == TASKS, "more tasks", BACK_IN)
    check_all_ran(results, on_own_redis, worker)


@pytest.mark.redis
def test_a_redis_that_is_full(start_worker: StartWorker, own_redis: PrivateRedis, on_own_redis: Place, settings: Any) -> None:
    """With noeviction: publishers get OperationalError that names the cause; the worker drains what is there, and it goes on after."""
    results = send_naps()
    on_own_redis.result_backend = "db://default"
    with closing(own_redis.client()) as admin:
        admin.config_set("maxmemory-policy", "noeviction")
        admin.config_set("maxmemory", "1mb")
        with pytest.raises(OperationalError, match="memory"):
            tasks.add.delay(1, 2)
        size = brokers.current().size("default")
        worker = start_worker("-c", "2", TEST_RESULT_BACKEND="db://default")
        wait_until(lambda: seen() == TASKS, f"all effects; the worker said:\n{worker.output[-5000:]}", 60)
        wait_until(lambda: on_own_redis.left() == 0, "the queue to be empty")
        assert size == TASKS
        admin.config_set("maxmemory", "0")
    assert len(results.results) == TASKS
    settings.DJANGO_TASKS = {**settings.DJANGO_TASKS, "RESULT_BACKEND": "db://default"}
    assert tasks.add.delay(1, 2).get(timeout=50) == 3


@pytest.mark.redis
def test_results_that_redis_has_no_memory_for(start_worker: StartWorker, own_redis: PrivateRedis, on_own_redis: Place) -> None:
    """The queue is worked off all the same, as only that frees memory; results that can't be stored are stored when there is room."""
    results = send_naps()
    with closing(own_redis.client()) as admin:
        admin.config_set("maxmemory-policy", "noeviction")
        admin.config_set("maxmemory", "1mb")
        worker = start_worker("-c", "2")
        worker.says("put off")
        wait_until(lambda: on_own_redis.left() == 0, f"the queue to be empty; the worker said:\n{worker.output[-5000:]}")
        admin.config_set("maxmemory", "0")
    check_all_ran(results, on_own_redis, worker)


@pytest.mark.redis
@pytest.mark.slow
def test_a_queue_of_a_million_messages(start_worker: StartWorker, own_redis: PrivateRedis, on_own_redis: Place) -> None:
    """A worker starts on it and runs its first task as soon as on an empty one; counting and purging are quick."""
    tasks.record.delay("one")
    with closing(own_redis.client()) as admin:
        # The same message, a million times: what is tried here is the length of the list.
        admin.config_set("appendonly", "no")
        admin.eval("local m = redis.call('LINDEX', 'default', 0) for i = 2, 1000000 do redis.call('LPUSH', 'default', m) end", 0)
    begun = time.monotonic()
    assert brokers.current().size("default") == 1_000_000
    assert time.monotonic() - begun < SOON
    begun = time.monotonic()
    worker = start_worker("-c", "1")
    wait_until(Effect.objects.exists, "the first task")
    assert time.monotonic() - begun < SOON, worker.output
    worker.signal(15)
    assert worker.ends() == 0
    begun = time.monotonic()
    left = brokers.current().purge("default")
    assert time.monotonic() - begun < SOON
    assert 900_000 < left < 1_000_000
    assert on_own_redis.left() == 0


@pytest.fixture(scope="module")
def own_rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateRabbitMQ]:
    """A RabbitMQ node beside the machine's."""
    need_rabbitmq_server()
    server = PrivateRabbitMQ(tmp_path_factory.mktemp("rabbitmq"))
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def on_own_rabbitmq(
    own_rabbitmq: PrivateRabbitMQ, transactional_db: None, settings: Any, child_environment: dict[str, str]
) -> Iterator[Place]:
    """Messages there, results in SQLite."""
    place = Place("rabbitmq", own_rabbitmq.url, "db://default")
    place.use(settings, child_environment)
    yield place
    brokers.current().purge("default")
    brokers.reset()


@pytest.mark.rabbitmq
@pytest.mark.slow
def test_rabbitmq_is_stopped_and_started_again(start_worker: StartWorker, own_rabbitmq: PrivateRabbitMQ, on_own_rabbitmq: Place) -> None:
    """In the middle of a drain: messages are persistent, so nothing is lost, and the worker comes back by itself."""
    worker = start_worker("-c", "2")
    results = send_naps()
    wait_until(lambda: seen() > 10, f"some tasks to run; the worker said:\n{worker.output}")
    own_rabbitmq.stop()
    with pytest.raises(OperationalError):
        tasks.add.delay(1, 2)
    before = seen()
    own_rabbitmq.start()
    wait_until(lambda: seen() > before, f"more tasks to run; the worker said:\n{worker.output[-5000:]}", BACK_IN)
    check_all_ran(results, on_own_rabbitmq, worker)


@pytest.mark.rabbitmq
@pytest.mark.slow
def test_a_rabbitmq_that_has_no_memory(start_worker: StartWorker, own_rabbitmq: PrivateRabbitMQ, on_own_rabbitmq: Place) -> None:
    """The memory alarm blocks publishers: they get OperationalError in time; the worker drains, and it goes on when there is room."""
    results = send_naps()
    own_rabbitmq.control("set_vm_memory_high_watermark", "absolute", "1")
    try:
        begun = time.monotonic()
        with pytest.raises(OperationalError):
            tasks.add.apply_async((1, 2), retry_policy={"max_retries": 1})
        assert time.monotonic() - begun < 60
        worker = start_worker("-c", "2")
        wait_until(lambda: seen() == TASKS, f"all effects; the worker said:\n{worker.output[-5000:]}", 60)
    finally:
        own_rabbitmq.control("set_vm_memory_high_watermark", "0.6")
    check_all_ran(results, on_own_rabbitmq, worker)
    assert tasks.add.delay(1, 2).get(timeout=50) == 3


@pytest.mark.rabbitmq
@pytest.mark.slow
def test_connections_that_rabbitmq_closes(start_worker: StartWorker, own_rabbitmq: PrivateRabbitMQ, on_own_rabbitmq: Place) -> None:
    """``rabbitmqctl close_all_connections``, three times during a drain."""
    worker = start_worker("-c", "2")
    results = send_naps()
    for _ in range(3):
        before = seen()
        own_rabbitmq.control("close_all_connections", "tests")
        wait_until(lambda before=before: seen() > before or seen() == TASKS, "more tasks", BACK_IN)
    check_all_ran(results, on_own_rabbitmq, worker)


@pytest.fixture
def impatient(own_rabbitmq: PrivateRabbitMQ) -> Iterator[None]:
    """RabbitMQ gives back what a consumer holds for more than three seconds, and looks each half second."""
    kept = {
        name: own_rabbitmq.control("eval", f"application:get_env(rabbit, {name}).")
        for name in ("consumer_timeout", "channel_tick_interval")
    }
    own_rabbitmq.control(
        "eval", "application:set_env(rabbit, consumer_timeout, 3000), application:set_env(rabbit, channel_tick_interval, 500)."
    )
    yield
    for name, value in kept.items():
        number = value.strip().removeprefix("{ok,").removesuffix("}")
        own_rabbitmq.control("eval", f"application:set_env(rabbit, {name}, {number}).")


@pytest.mark.rabbitmq
@pytest.mark.slow
@pytest.mark.usefixtures("impatient", "on_own_rabbitmq")
def test_a_task_that_runs_for_longer_than_rabbitmq_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps its message and its connection, and nobody else gets the message while it runs."""
    monkeypatch.setattr(keepingaside, "AFTER", 1.0)
    tasks.add.delay(1, 2)
    broker = brokers.current()
    consumer = keepingaside.keeping_aside(broker, broker.consume(["default"], consumer_id="long"), 60.0)
    with closing(consumer), closing(broker.consume(["default"], consumer_id="other")) as other:
        (delivery,) = consumer.receive(1, 10)
        end = time.monotonic() + 8
        while time.monotonic() < end:
            # Raises OperationalError where the server has closed the channel.
            assert consumer.receive(0, 0.3) == []
            assert other.receive(1, 0.1) == []
        assert Message.objects.count() == 1
        consumer.settle([Settlement(delivery, Disposition.ACK)])
        assert Message.objects.count() == 0
