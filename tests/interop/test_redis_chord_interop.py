"""One chord, counted by a real Celery worker in a process of its own and by our result backend."""

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from celery import Celery, chord, signature

from django_tasks import clock, states
from django_tasks.result_backends import open_result_backend
from django_tasks.result_backends.backend import ReadyChord, ResultBackend, ResultMeta
from django_tasks.result_backends.encoding import decode
from tests.celeryclient import celery_client
from tests.privateservers import PrivateRedis, private_redis
from tests.processes import wait_until

pytestmark = [
    pytest.mark.interop,
    pytest.mark.redis,
    pytest.mark.slow,
    # Celery's own.
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
]

#: The worker's tasks. What is sent to the queue «ours» it leaves to us.
MODULE = """
from celery import Celery

app = Celery("theirs", broker={url!r}, backend={url!r})
app.conf.update(worker_hijack_root_logger=False, broker_connection_retry_on_startup=True)


@app.task(name="theirs.same")
def same(value):
    return value


@app.task(name="theirs.bad")
def bad():
    raise ValueError("theirs")


@app.task(name="theirs.total")
def total(values):
    return values
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[PrivateRedis]:
    with private_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="module")
def celery(server) -> Iterator[Celery]:
    """The client of a running Celery worker."""
    (server.folder / "theirs.py").write_text(MODULE.format(url=server.url))
    command = [sys.executable, "-m", "celery", "-A", "theirs", "worker", "-P", "solo", "-l", "WARNING"]
    with (server.folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(command, cwd=server.folder, env={**os.environ, "PYTHONPATH": ""}, stdout=log, stderr=log)
    with celery_client(server.url, broker=server.url) as app:
        wait_until(lambda: answers(app, worker, server.folder / "worker.log"), "Celery's worker")
        yield app
    worker.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        worker.wait(20)
    worker.kill()
    worker.wait()


def answers(app: Celery, worker: subprocess.Popen, log: Path) -> bool:
    if worker.poll() is not None:
        pytest.fail(f"Celery's worker ended:\n{log.read_text()[-2000:]}")
    return bool(app.control.ping(timeout=0.5))


@pytest.fixture
def backend(settings, server) -> Iterator[ResultBackend]:
    settings.DJANGO_TASKS = {"RESULT_BACKEND": server.url}
    backend = open_result_backend(server.url)
    yield backend
    backend.close()


def send(celery, *parts):
    """Send a chord of their parts and ours, the way a Celery client does; return the result of its body."""
    header = [signature(f"theirs.{name}", args=args, app=celery).set(queue=queue) for name, args, queue in parts]
    return chord(header, app=celery)(signature("theirs.total", app=celery).set(queue="celery"))


def run_ours(server, backend, status=states.SUCCESS) -> list[ReadyChord]:
    """Do what our worker does with the next message of our queue, up to the body."""
    client = server.client()
    envelope = json.loads(client.rpop("ours"))
    client.close()
    headers = envelope["headers"]
    (value,), _, embed = json.loads(base64.b64decode(envelope["body"]))
    wire = {"exc_type": "KeyError", "exc_message": ["ours"], "exc_module": "builtins"} if status == states.FAILURE else value
    done = ResultMeta(
        task_id=headers["id"],
        status=status,
        result=json.dumps(wire),
        date_done=clock.now(),
        group_id=headers["group"],
        group_index=headers["group_index"],
        chord=embed["chord"],
    )
    backend.store([done])
    return backend.count_chord_parts([done])


def counted(server) -> int:
    """Say how many parts of the only chord have been counted."""
    client = server.client()
    try:
        return sum(client.zcard(key) for key in client.scan_iter("celery-taskset-meta-*.j"))
    finally:
        client.close()


def test_their_worker_completes(celery, server, backend):
    """Parts that we counted first must be in the list that Celery's worker sends to the body."""
    client = server.client()
    client.flushdb()
    held = [
        signature("theirs.same", args=(0,), app=celery).set(queue="ours"),
        signature("theirs.same", args=(1,), app=celery).set(queue="late"),
    ]
    result = chord(held, app=celery)(signature("theirs.total", app=celery).set(queue="celery"))
    assert run_ours(server, backend) == []
    # Now their part may run: to the queue that their worker reads.
    assert client.rename("late", "celery")
    assert result.get(timeout=50) == [0, 1]
    client.close()


def test_our_backend_completes(celery, server, backend):
    """Parts that Celery's worker counted first must be in the list that we get, once."""
    client = server.client()
    client.flushdb()
    result = send(celery, ("same", (0,), "celery"), ("same", (1,), "ours"), ("same", (2,), "celery"), ("same", (3,), "ours"))
    wait_until(lambda: counted(server) == 2, "their two parts")
    assert run_ours(server, backend) == []
    (ready,) = run_ours(server, backend)
    values = [decode(each) for each in ready.parts]
    assert values == [0, 1, 2, 3]
    signature(ready.body, app=celery).apply_async((values,))
    backend.close_chords([ready.group_id])
    assert result.get(timeout=50) == [0, 1, 2, 3]
    assert client.get(f"celery-taskset-meta-{ready.group_id}.c") == "done"
    client.close()


@pytest.mark.parametrize("status", [states.SUCCESS, states.FAILURE])
def test_part_that_is_done_while_the_header_is_sent(celery, server, backend, status):
    """A Celery client says how many parts there are just before the last one: what we have done by then must count."""
    client = server.client()
    client.flushdb()
    early = []

    def header():
        for value in range(5):
            if client.llen("ours") and not early:
                early.append(run_ours(server, backend, status))
            yield signature("theirs.same", args=(value,), app=celery).set(queue="ours")

    chord(header(), app=celery)(signature("theirs.total", app=celery).set(queue="celery"))
    assert early == [[]]
    assert [run_ours(server, backend) for _ in range(3)] == [[], [], []]
    (ready,) = run_ours(server, backend)
    assert [each.status for each in ready.parts] == [status, *[states.SUCCESS] * 4]
    backend.close_chords([ready.group_id])
    client.close()


def test_our_part_fails(celery, server, backend):
    """Our failed part must end the chord at once, and their parts that come later must do nothing."""
    client = server.client()
    client.flushdb()
    send(celery, ("same", (0,), "ours"), ("same", (1,), "late"))
    (ready,) = run_ours(server, backend, states.FAILURE)
    assert [each.status for each in ready.parts] == [states.FAILURE]
    backend.close_chords([ready.group_id])
    late = json.loads(client.lindex("late", 0))["headers"]["id"]
    client.rename("late", "celery")
    assert celery.AsyncResult(late).get(timeout=50) == 1
    assert backend.fetch([ready.body["options"]["task_id"]]) == {}
    assert not client.exists(f"celery-taskset-meta-{ready.group_id}.s")
    client.close()


def test_their_part_fails(celery, server, backend):
    """A part that failed in Celery's worker must fail the chord that we complete."""
    client = server.client()
    client.flushdb()
    send(celery, ("bad", (), "celery"), ("same", (1,), "ours"))
    wait_until(lambda: counted(server) == 1, "their part")
    (ready,) = run_ours(server, backend)
    assert [each.status for each in ready.parts] == [states.FAILURE, states.SUCCESS]
    error = decode(ready.parts[0])
    assert (type(error), error.args) == (ValueError, ("theirs",))
    backend.close_chords([ready.group_id])
    client.close()
