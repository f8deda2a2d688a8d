"""Results in Redis: as Celery's clients and workers find them, told at once, and safe from a server in trouble."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import partial

import pytest
from celery import Celery
from celery.app.task import Context

from django_tasks import clock, states
from django_tasks.exceptions import OperationalError
from django_tasks.exceptions import TimeoutError as TaskTimeoutError
from django_tasks.messages import new_id
from django_tasks.result_backends import open_result_backend
from django_tasks.result_backends.encoding import decode
from django_tasks.result_backends.merging import KEPT
from django_tasks.result_backends.redis import RedisResultBackend
from django_tasks.testing.result_probes import BODY, failure, meta, part
from tests.celeryclient import celery_client
from tests.privateservers import PrivateRedis, private_redis
from tests.processes import wait_until

pytestmark = [
    pytest.mark.redis,
    # Celery's own.
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[PrivateRedis]:
    """A server for the tests that do it no harm."""
    with private_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def victim(tmp_path) -> Iterator[PrivateRedis]:
    """A server for one test, which may harm it."""
    with private_redis(tmp_path / "redis") as server:
        yield server


@contextmanager
def opened(settings, url, **options) -> Iterator[RedisResultBackend]:
    settings.DJANGO_TASKS = {"RESULT_BACKEND": url, **options}
    backend = open_result_backend(url)
    yield backend
    backend.close()


@pytest.fixture
def client(shared) -> Iterator:
    client = shared.client()
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def backend(settings, shared, client) -> Iterator[RedisResultBackend]:
    with opened(settings, shared.url) as backend:
        yield backend


@pytest.fixture
def celery(shared) -> Iterator[Celery]:
    """A Celery app with its results in the same server."""
    with celery_client(shared.url) as app:
        app.conf.update(result_extended=True)
        yield app


def told(backend, client):
    """Say how many channels somebody listens to."""
    return len(client.pubsub_channels())


# ---- documents


def test_celery_reads_ours(backend, celery):
    """A Celery client must find value, error, names and times where it looks for them."""
    done = datetime(2026, 11, 21, 3, 4, 5, tzinfo=UTC)
    good = meta(
        value={"a": [1, "ü"]}, name="shop.add", args="[1,2]", kwargs='{"x":null}', worker="w@h", queue="tea", date_done=done, parent_id="p"
    )
    bad = failure(error=KeyError("no"))
    backend.store([good, bad])
    assert celery.AsyncResult(good.task_id).get(timeout=5) == {"a": [1, "ü"]}
    with pytest.raises(KeyError, match="no"):
        celery.AsyncResult(bad.task_id).get(timeout=5)
    found = celery.AsyncResult(good.task_id)
    assert (found.name, found.args, found.kwargs, found.worker, found.queue, found.retries) == (
        "shop.add",
        [1, 2],
        {"x": None},
        "w@h",
        "tea",
        0,
    )
    assert found.date_done.replace(tzinfo=UTC) == done
    assert celery.AsyncResult(bad.task_id).traceback == bad.traceback


def test_we_read_celerys(backend, celery):
    """What a Celery worker left must be read with all that it says."""
    good, bad = new_id(), new_id()
    request = Context(id=good, task="shop.add", args=[1, 2], kwargs={}, hostname="w@h", group="g", root_id=good, retries=2)
    request.delivery_info = {"routing_key": "tea"}
    celery.backend.store_result(good, {"a": "ü"}, states.SUCCESS, request=request)
    celery.backend.store_result(bad, ValueError("bad", 3), states.FAILURE, traceback="Traceback: ...")
    found = backend.fetch([good, bad, new_id()])
    assert set(found) == {good, bad}
    known = found[good]
    assert (decode(known), known.name, known.args, known.worker, known.queue) == ({"a": "ü"}, "shop.add", "[1,2]", "w@h", "tea")
    assert (known.group_id, known.retries) == ("g", 2)
    error = decode(found[bad])
    assert (type(error), error.args, found[bad].traceback) == (ValueError, ("bad", 3), "Traceback: ...")


def test_celerys_success_is_final(backend, celery):
    """A SUCCESS that a Celery worker stored must stay, and ours must stay when Celery writes."""
    theirs, ours = new_id(), meta()
    celery.backend.store_result(theirs, 1, states.SUCCESS)
    backend.store([failure(theirs), ours])
    assert backend.fetch([theirs])[theirs].status == states.SUCCESS
    celery.backend.store_result(ours.task_id, ValueError(), states.FAILURE)
    assert backend.fetch([ours.task_id])[ours.task_id].status == states.SUCCESS


def test_a_write_over_celerys_loses_nothing(backend, celery, client):
    """What a Celery worker wrote of a task that is revoked later must stay beside the new state."""
    task_id = new_id()
    request = Context(id=task_id, task="shop.add", args=[1], kwargs={}, hostname="w@h", retries=3)
    celery.backend.store_result(task_id, None, states.STARTED, request=request)
    backend.store([meta(task_id, states.REVOKED, {"exc_type": "TaskRevokedError", "exc_message": [], "exc_module": "celery.exceptions"})])
    found = backend.fetch([task_id])[task_id]
    assert (found.status, found.name, found.args, found.worker, found.retries) == (states.REVOKED, "shop.add", "[1]", "w@h", 3)


def test_each_field_that_a_write_does_not_know_stays(backend):
    """Each single thing that is known of a task must outlive a write without it."""
    values = {**dict.fromkeys(KEPT, "1"), "children": [], "runtime": 0.5, "group_index": 3}
    ids = {name: new_id() for name in values}
    backend.store([meta(ids[name], states.RETRY, {}, **{name: value}) for name, value in values.items()])
    backend.store([meta(task_id) for task_id in ids.values()])
    found = backend.fetch(ids.values())
    assert {name: getattr(found[task_id], name) for name, task_id in ids.items()} == values


def test_the_first_start_stays(backend):
    """A second run's start must not replace the first one, also where a value looks like one."""
    task_id, first, later = new_id(), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)
    value = {"date_started": "2001-01-01", "status": "FAILURE", "retries": 99}
    backend.store([meta(task_id, states.STARTED, value, date_started=first)])
    backend.store([meta(task_id, value=value, date_started=later)])
    found = backend.fetch([task_id])[task_id]
    assert (found.status, found.date_started, decode(found), found.retries) == (states.SUCCESS, first, value, 0)


def test_a_document_that_is_none_is_replaced(backend, client):
    """What somebody else left under a task's key must not keep its result from being stored."""
    one, other = meta(), meta()
    client.set(f"celery-task-meta-{one.task_id}", "no document")
    client.set(f"celery-task-meta-{other.task_id}", "[1]")
    backend.store([one, other])
    assert {found.status for found in backend.fetch([one.task_id, other.task_id]).values()} == {states.SUCCESS}


def test_writers_that_merge_at_once(backend):
    """Of two writes that each know a part, made at the same moment, the result must have both."""
    for _ in range(20):
        task_id = new_id()
        backend.store([meta(task_id, states.RETRY, {}, name="n", retries=1)])
        threads = [
            threading.Thread(target=backend.store, args=([failure(task_id, **known)],))
            for known in ({"queue": "q"}, {"worker": "w"}, {"args": "[1]"})
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        found = backend.fetch([task_id])[task_id]
        assert (found.name, found.queue, found.worker, found.args) == ("n", "q", "w", "[1]")


def test_keys_and_their_life(settings, shared, client):
    """Keys must have the prefix as Celery writes it, and go when RESULT_EXPIRES has passed; 0 and None keep them."""
    for expires, least, most in ((60, 50, 60), (None, -1, -1), (0, -1, -1)):
        with opened(settings, shared.url, RESULT_EXPIRES=expires, RESULT_BACKEND_TRANSPORT_OPTIONS={"global_keyprefix": "shop"}) as backend:
            stored, group_id = meta(), new_id()
            backend.store([stored])
            backend.store_group(group_id, [])
            for key in (f"shop_celery-task-meta-{stored.task_id}", f"shop_celery-taskset-meta-{group_id}"):
                assert least <= client.ttl(key) <= most, key
            assert backend.expire(clock.now(), limit=10) == 0
            assert backend.fetch([stored.task_id])


def test_a_batch_is_one_call(backend, client):
    """A batch must be stored in one round trip, also where STARTED lies there already."""
    start = datetime(2026, 1, 1, tzinfo=UTC)
    known = {"name": "n", "args": "[]", "kwargs": "{}", "worker": "w", "queue": "q", "runtime": 0.5, "children": [], "date_started": start}
    ids = [new_id() for _ in range(100)]
    backend.store([meta(task_id, states.STARTED, {"pid": 1}, **known) for task_id in ids])
    before = client.info("stats")["total_net_output_bytes"], client.info("commandstats")["cmdstat_evalsha"]["calls"]
    backend.store([meta(task_id, **known) for task_id in ids])
    assert client.info("commandstats")["cmdstat_evalsha"]["calls"] - before[1] == 1
    assert {found.status for found in backend.fetch(ids).values()} == {states.SUCCESS}


def test_groups_are_celerys(backend, celery):
    """A group must be restored by Celery as we saved it, and the other way round."""
    ours, theirs = new_id(), new_id()
    backend.store_group(ours, [[ours, None], [[["a", None], None], [["b", None], None]]])
    assert [each.id for each in celery.GroupResult.restore(ours).results] == ["a", "b"]
    celery.GroupResult(theirs, [celery.AsyncResult("c")]).save()
    (group_id, _), members = backend.fetch_group(theirs)
    assert (group_id, members) == (theirs, [[["c", None], None]])


# ---- waiting


def test_waiting_readers_are_told_at_once(backend):
    """A reader must have a result within a few milliseconds of its being stored, not at its next look."""
    late = []
    for _ in range(20):
        stored, stamp = meta(), []

        def store(stored=stored, stamp=stamp):
            wait_until(lambda: told(backend, backend.server.client), "a subscription")
            stamp.append(clock.monotonic())
            backend.store([stored])

        thread = threading.Thread(target=store)
        thread.start()
        assert next(backend.wait([stored.task_id], 20)).task_id == stored.task_id
        late.append(clock.monotonic() - stamp[0])
        thread.join()
    assert sorted(late)[10] < 0.1


def test_celerys_clients_are_told(backend, celery):
    """A Celery client that waits must be told of our result, and ours of what a Celery worker stores."""
    stored, theirs = meta(), new_id()
    timer = threading.Timer(0.1, backend.store, [[stored]])
    timer.start()
    assert celery.AsyncResult(stored.task_id).get(timeout=20) == 5
    timer = threading.Timer(0.1, celery.backend.store_result, [theirs, 7, states.SUCCESS])
    timer.start()
    assert decode(next(backend.wait([theirs], 20))) == 7


def test_a_reader_leaves_no_subscription(backend, client):
    """Whether it got what it waited for, gave up, or was left, a reader must not stay subscribed, nor keep connections."""
    for _ in range(10):
        with pytest.raises(TaskTimeoutError):
            next(backend.wait([new_id()], 0.01))
        waiting = backend.wait([new_id(), (stored := meta()).task_id], 20)
        backend.store([stored])
        next(waiting)
        waiting.close()
    wait_until(lambda: not client.pubsub_channels(), "no channels")
    assert client.info("clients")["connected_clients"] < 10


def test_a_connection_is_lent_again(backend, client):
    """What was told to the reader before must not disturb the next one on the same connection."""
    first, second = meta(), meta()
    waiting = backend.wait([first.task_id, second.task_id], 20)
    backend.store([first])
    assert next(waiting).task_id == first.task_id
    waiting.close()
    backend.store([second])
    backend.store([meta(second.task_id, states.STARTED, {})])
    third = meta()
    threading.Timer(0.1, backend.store, [[third]]).start()
    assert [found.task_id for found in backend.wait([third.task_id, first.task_id], 20)] == [first.task_id, third.task_id]
    opened_before = client.info("stats")["total_connections_received"]
    for _ in range(10):
        with pytest.raises(TaskTimeoutError):
            next(backend.wait([new_id()], 0.01))
    assert client.info("stats")["total_connections_received"] - opened_before <= 2


def test_waiting_for_thousands(backend):
    """Thousands of results must be awaited together, each yielded once."""
    metas = [meta(value=number) for number in range(3000)]
    backend.store(metas[:10])

    def work():
        for start in range(10, 3000, 100):
            backend.store(metas[start : start + 100])

    thread = threading.Thread(target=work)
    thread.start()
    found = [each.task_id for each in backend.wait([each.task_id for each in metas], 60)]
    thread.join()
    assert sorted(found) == sorted(each.task_id for each in metas)


def test_many_threads_wait(backend):
    """Readers in many threads must each get their own result."""
    metas, found = [meta(value=number) for number in range(20)], {}

    def read(stored):
        found[stored.task_id] = decode(next(backend.wait([stored.task_id], 20)))

    threads = [threading.Thread(target=read, args=(stored,)) for stored in metas]
    for thread in threads:
        thread.start()
    for stored in metas:
        backend.store([stored])
    for thread in threads:
        thread.join(20)
    assert found == {stored.task_id: number for number, stored in enumerate(metas)}


def test_a_result_of_which_nobody_is_told(backend, client):
    """A result whose announcement was lost must be found all the same."""
    stored = meta()

    def smuggle():
        wait_until(client.pubsub_channels, "a subscription")
        backend.store([other := meta()])
        client.rename(f"celery-task-meta-{other.task_id}", f"celery-task-meta-{stored.task_id}")
        text = json.loads(client.get(f"celery-task-meta-{stored.task_id}"))
        client.set(f"celery-task-meta-{stored.task_id}", json.dumps({**text, "task_id": stored.task_id}))

    thread = threading.Thread(target=smuggle)
    thread.start()
    assert next(backend.wait([stored.task_id], 20)).task_id == stored.task_id
    thread.join()


def test_a_connection_that_is_cut(settings, victim):
    """A reader whose connection is killed must open another one, and miss nothing that was stored meanwhile."""
    with opened(settings, victim.url) as backend:
        client = victim.client()
        metas = [meta() for _ in range(3)]

        def work():
            for stored in metas:
                wait_until(client.pubsub_channels, "a subscription")
                client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
                client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
                # The connections of the pool have been cut, too.
                with suppress(OperationalError):
                    backend.store([stored])
                backend.store([stored])

        thread = threading.Thread(target=work)
        thread.start()
        begun = clock.monotonic()
        assert {found.task_id for found in backend.wait([each.task_id for each in metas], 20)} == {each.task_id for each in metas}
        assert clock.monotonic() - begun < 5
        thread.join()
        client.close()


def test_a_server_that_restarts(settings, victim):
    """A reader must outlive a server that is away for a moment."""
    with opened(settings, victim.url) as backend:
        stored = meta()

        def work():
            client = victim.client()
            wait_until(client.pubsub_channels, "a subscription")
            client.close()
            victim.kill()
            victim.start()
            wait_until(lambda: stores(backend, stored), "a store")

        thread = threading.Thread(target=work)
        thread.start()
        assert next(backend.wait([stored.task_id], 20)).task_id == stored.task_id
        thread.join()


def stores(backend, stored):
    """Store it; say whether that was possible."""
    with suppress(OperationalError):
        backend.store([stored])
        return True
    return False


# ---- a server in trouble


def test_a_server_that_is_gone(settings, victim):
    """Every call must raise OperationalError, waiting ones too after a while, and none before the server is gone."""
    with opened(settings, victim.url) as backend:
        stored = meta()
        backend.store([stored])
        waiting = backend.wait([stored.task_id, new_id()], 60)
        next(waiting)
        victim.kill()
        calls = [
            lambda: backend.store([stored]),
            lambda: backend.fetch([stored.task_id]),
            lambda: backend.forget([stored.task_id]),
            lambda: backend.fetch_group("g"),
            lambda: backend.open_chord("g", 1, BODY),
            lambda: backend.count_chord_parts([part("g", 0)]),
            lambda: backend.close_chords(["g"]),
            lambda: backend.reclaim_chords(10),
            partial(next, waiting),
        ]
        for call in calls:
            with pytest.raises(OperationalError, match=str(victim.port)):
                call()


def test_the_deadline_holds_without_a_server(settings, victim):
    """A reader must give up when its time is over, though the server does not answer."""
    with opened(settings, victim.url) as backend:
        backend.store([stored := meta()])
        waiting = backend.wait([stored.task_id, new_id()], 0.5)
        next(waiting)
        victim.kill()
        begun = clock.monotonic()
        with pytest.raises(TaskTimeoutError):
            next(waiting)
        assert clock.monotonic() - begun < 5


def test_a_server_without_memory(settings, victim):
    """A server that takes nothing more must be named with what to do, and take the same batch once it has room."""
    with opened(settings, victim.url, RESULT_EXPIRES=60) as backend:
        client = victim.client()
        kept = meta()
        backend.store([kept])
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", "1mb")
        batch = [meta(value="x" * 1000) for _ in range(10)]
        with pytest.raises(OperationalError, match="memory is full"):
            backend.store(batch)
        with pytest.raises(OperationalError, match="memory is full"):
            backend.open_chord(new_id(), 1, BODY)
        assert decode(backend.fetch([kept.task_id])[kept.task_id]) == 5
        client.config_set("maxmemory", "0")
        backend.store(batch)
        assert len(backend.fetch([each.task_id for each in batch])) == 10
        client.close()


def test_scripts_that_were_flushed(backend, client):
    """A server that has forgotten the scripts (a restart, a fail-over) must be given them again."""
    backend.store([meta()])
    client.script_flush()
    stored = meta()
    backend.store([stored])
    assert backend.fetch([stored.task_id])


# ---- chords


def test_the_keys_of_a_chord_are_celerys(backend, client):
    """Size, growth, parts, what was counted and the claim must lie where Celery's workers look for them."""
    group_id = new_id()
    key = f"celery-taskset-meta-{group_id}"
    backend.open_chord(group_id, 2, BODY)
    backend.grow_chord(group_id, 1)
    parts = [part(group_id, 0), part(group_id, 1), part(group_id, None)]
    backend.store(parts)
    assert backend.count_chord_parts(parts[:2]) == []
    assert (client.get(f"{key}.s"), client.get(f"{key}.t"), client.get(f"{key}.c")) == ("2", "1", None)
    assert [json.loads(entry) for entry in client.zrange(f"{key}.j", 0, -1)] == [
        [1, parts[0].task_id, "SUCCESS", 0],
        [1, parts[1].task_id, "SUCCESS", 1],
    ]
    assert client.smembers(f"{key}.d") == {f"{parts[0].task_id}:0", f"{parts[1].task_id}:1"}
    (ready,) = backend.count_chord_parts(parts[2:])
    assert [decode(each) for each in ready.parts] == [0, 1, None]
    assert client.get(f"{key}.c") not in {None, "done"}
    assert all(client.ttl(f"{key}{suffix}") > 3600 for suffix in (".s", ".t", ".j", ".d"))
    backend.close_chords([group_id])
    assert client.get(f"{key}.c") == "done"
    assert client.keys(f"{key}*") == [f"{key}.c"]
    # Nothing else is left, either.
    assert client.keys("django-tasks*") == []


@pytest.mark.parametrize("ordered", [True, False])
def test_a_chord_that_both_count(settings, shared, celery, ordered):
    """Parts that Celery's worker counts and parts that we count must make one chord, completed once by either."""
    options = {"result_chord_ordered": ordered}
    celery.conf.result_backend_transport_options = options
    sent = []
    celery.amqp._retry_publish = lambda _publish, results: sent.append(results)
    with opened(settings, shared.url, RESULT_BACKEND_TRANSPORT_OPTIONS=options) as backend:
        for order in ("ttoo", "otot", "toto", "oott"):
            group_id = new_id()
            celery.backend.set_chord_size(group_id, 4)
            ready = []
            for position, who in enumerate(order):
                mine = part(group_id, position)
                if who == "o":
                    backend.store([mine])
                    ready += backend.count_chord_parts([mine, mine])
                    backend.close_chords([each.group_id for each in ready])
                else:
                    request = Context(id=mine.task_id, group=group_id, group_index=position, chord=BODY)
                    for _ in range(2):
                        celery.backend.on_chord_part_return(request, states.SUCCESS, position)
            found = [[decode(each) for each in chord.parts] for chord in ready] + sent
            assert found == [[0, 1, 2, 3]], order
            sent.clear()
            # Late, by either.
            late = part(group_id, 3)
            assert backend.count_chord_parts([late]) == []
            celery.backend.on_chord_part_return(Context(id=late.task_id, group=group_id, group_index=3, chord=BODY), states.SUCCESS, 3)
            assert sent == []


def test_celerys_claim_is_respected(backend, client):
    """A chord whose body a Celery worker is sending must not be handed out, until that one's claim has lapsed."""
    group_id = new_id()
    key = f"celery-taskset-meta-{group_id}"
    backend.open_chord(group_id, 1, BODY)
    stored = part(group_id, 0)
    client.set(f"{key}.c", "theirs", px=300)
    assert backend.count_chord_parts([stored]) == []
    wait_until(lambda: backend.count_chord_parts([stored]), "the claim to lapse")


def test_parts_in_another_serializer(backend):
    """A part whose result is pickled, or fails so, must reach the body as it was."""
    group_id = new_id()
    backend.open_chord(group_id, 2, BODY)
    pickled = {"content_type": "application/x-python-serialize", "content_encoding": "base64", "result": "gASVBwAAAAAAAACPlChLAZAu"}
    parts = [part(group_id, 0, **pickled), part(group_id, 1)]
    (ready,) = backend.count_chord_parts(parts)
    assert decode(ready.parts[0], accept=["pickle"]) == {1}


def test_reclaiming_leaves_others_alone(backend, client):
    """What was claimed by us, lapsed, and was closed or taken by a Celery worker meanwhile, must not be reclaimed."""
    with backend_impatient():
        ids = [new_id() for _ in range(3)]
        for group_id in ids:
            backend.open_chord(group_id, 1, BODY)
            assert len(backend.count_chord_parts([part(group_id, 0)])) == 1
        key = "celery-taskset-meta-"
        wait_until(lambda: not client.exists(*(f"{key}{group_id}.c" for group_id in ids)), "the claims to lapse")
        client.set(f"{key}{ids[0]}.c", "theirs", ex=60)
        client.delete(f"{key}{ids[1]}.s")
        (ready,) = backend.reclaim_chords(10)
        assert ready.group_id == ids[2]


def backend_impatient():
    """Let claims lapse within a second."""
    from django_tasks.testing.result_probes import ResultProbes

    return ResultProbes.impatient()


def test_the_shape_of_a_header_lives_as_long_as_its_chord(settings, shared, client):
    """However short RESULT_EXPIRES is: with the shape gone, the body would be called with another list."""
    with opened(settings, shared.url, RESULT_EXPIRES=30) as backend:
        group_id = new_id()
        key = f"celery-taskset-meta-{group_id}"
        backend.store_group(group_id, [[group_id, None], []])
        assert client.ttl(key) <= 30
        backend.open_chord(group_id, 2, BODY, ["a", "b"])
        assert client.ttl(key) > 3600
        client.expire(key, 5)
        backend.count_chord_parts([part(group_id, 0)])
        assert client.ttl(key) > 3600
        assert all(client.ttl(f"{key}{suffix}") > 3600 for suffix in (".s", ".o", ".j", ".d"))


def test_open_chords_that_are_gone_are_forgotten(backend, client):
    """A chord that Celery's worker has ended, or whose keys were evicted, must not be listed, and its entry must go."""
    ids = [new_id() for _ in range(250)]
    for group_id in ids:
        backend.open_chord(group_id, 2, BODY, ["a", "b"])
    for group_id in ids[:200]:
        client.delete(f"celery-taskset-meta-{group_id}.s")
    later = clock.after(60)
    # Several may have been opened in the same millisecond.
    assert {each.group_id for each in backend.open_chords(later, limit=1000)} == set(ids[200:])
    assert client.zcard("django-tasks-chords") == 50
    assert client.keys(f"celery-taskset-meta-{ids[0]}*") == []
    assert len(backend.open_chords(later, limit=3)) == 3
