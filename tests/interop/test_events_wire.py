"""Events between a real Celery and us, both ways, over Redis and RabbitMQ: channels, monitors, a worker of Celery's."""

import json
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import redis
from celery import Celery
from kombu import Connection, Exchange, Queue

from django_tasks import app, events
from django_tasks.events.channel import event
from django_tasks.testing.event_contract import heard, task_event
from tests.processes import ROOT, WorkerProcess
from tests.services import SERVICES

pytestmark = pytest.mark.interop

REDIS = SERVICES["redis"].url.rpartition("/")[0] + "/5"


@pytest.fixture(params=[pytest.param("redis", marks=pytest.mark.redis), pytest.param("rabbitmq", marks=pytest.mark.rabbitmq)])
def broker(request, settings) -> Iterator[tuple[str, dict[str, Any]]]:
    """A URL and transport options, which belong to this test alone."""
    options = {"global_keyprefix": f"wire-{uuid.uuid4().hex}:"} if request.param == "redis" else {}
    url = REDIS if request.param == "redis" else request.getfixturevalue("virtual_host")
    settings.DJANGO_TASKS = {"BROKER_URL": url, "BROKER_TRANSPORT_OPTIONS": options}
    yield url, options
    events.reset()
    if request.param == "redis":
        with redis.Redis.from_url(url) as client:
            for key in client.scan_iter(match=options["global_keyprefix"] + "*"):
                client.delete(key)


@pytest.fixture
def theirs(broker):
    url, options = broker
    with Celery("theirs", broker=url, set_as_current=False) as theirs:
        theirs.conf.broker_transport_options = options
        yield theirs


SENT = [
    task_event(
        "received", 1, name="shop.add", args="(2, 3)", kwargs="{}", root_id="id-1", parent_id=None, retries=0, eta=None, expires=None
    ),
    task_event("started", 1),
    task_event("succeeded", 1, result="5", runtime=0.25),
]


def test_celerys_receiver_hears_ours(broker, theirs):
    """Batches and single events, with every field, in order; its state makes a task and a worker of them."""
    found, state = [], theirs.events.State()

    def note(said):
        found.append(dict(said))
        state.event(said)

    beat = event(
        "worker-heartbeat", "w1@host", freq=2.0, active=1, processed=7, loadavg=[0, 0, 0], sw_ident="x", sw_ver="1", sw_sys="Linux"
    )
    with theirs.connection_for_read() as connection:
        recv = theirs.events.Receiver(connection, handlers={"*": note})
        with recv.consumer_context(wakeup=False) as (opened, _, _):
            if opened.transport.driver_type == "redis":
                # Subscribes, which it would do when it first waits.
                with suppress(TimeoutError):
                    opened.drain_events(timeout=0.5)
            events.current().send(SENT)
            events.current().send([beat])
            while len(found) < 4:
                opened.drain_events(timeout=20)
    for said in found:
        del said["local_received"]
        # Moved to its own time zone, as it thinks.
        said["timestamp"] = next(one["timestamp"] for one in [*SENT, beat] if one["type"] == said["type"])
    assert found == [*SENT, beat]
    assert (state.tasks["id-1"].state, state.tasks["id-1"].name, state.tasks["id-1"].result) == ("SUCCESS", "shop.add", "5")
    assert (state.workers["w1@host"].processed, state.workers["w1@host"].alive) == (7, True)


def test_we_hear_celerys_dispatcher(broker, theirs):
    """Buffered task events and single ones, by its dispatcher; our state makes the same of them."""
    state = app.events.State()
    with (
        events.current().listen() as receiver,
        theirs.connection_for_write() as connection,
        theirs.events.Dispatcher(connection, hostname="w9@host", buffer_group={"task"}) as dispatcher,
    ):
        dispatcher.send("task-received", uuid="1", name="shop.mail", args="()", kwargs="{}")
        dispatcher.send("task-failed", uuid="1", exception="Oops()", traceback="...")
        dispatcher.flush()
        dispatcher.send("worker-online", freq=2.0)
        found = heard(receiver, 3)
    for said in found:
        state.event(said)
    assert [said["type"] for said in found] == ["task-received", "task-failed", "worker-online"]
    assert (state.tasks["1"].state, state.tasks["1"].exception, state.workers["w9@host"].freq) == ("FAILURE", "Oops()", 2.0)


def test_one_event_of_a_list_can_be_asked_for(broker, theirs):
    """A routing key that Celery's lists don't go by hears their events all the same."""
    with events.current().listen("task.failed") as receiver, theirs.connection_for_write() as connection:
        with theirs.events.Dispatcher(connection, buffer_group={"task"}) as dispatcher:
            dispatcher.send("task-started", uuid="1")
            dispatcher.send("task-failed", uuid="1")
            dispatcher.flush()
        assert [said["type"] for said in heard(receiver, 1)] == ["task-failed"]


def shape(message):
    """A message without what differs from one to the next."""
    properties = {name: value for name, value in message.properties.items() if name not in {"delivery_tag", "application_headers"}}
    where = {name: message.delivery_info.get(name) for name in ("exchange", "routing_key")}
    return where, message.headers, properties, message.content_type, message.content_encoding, type(message.decode())


def test_messages_are_celerys(broker, theirs):
    """Exchange, key, headers, properties and form of a single event and of a list are the same as of Celery's dispatcher."""
    url, options = broker
    found = []
    kind = "fanout" if url.startswith("redis") else "topic"
    with Connection(url, transport_options=options) as connection:
        queue = Queue(f"wire-{uuid.uuid4().hex}", Exchange("celeryev", type=kind), routing_key="#", exclusive=True, auto_delete=True)
        with connection.Consumer([queue], on_message=found.append, no_ack=True):
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.5)
            with (
                theirs.connection_for_write() as other,
                theirs.events.Dispatcher(other, hostname="w1@host", buffer_group={"task"}) as dispatcher,
            ):
                dispatcher.send("worker-heartbeat", freq=2.0)
                dispatcher.send("task-started", uuid="1")
                dispatcher.flush()
                while len(found) < 2:
                    connection.drain_events(timeout=20)
            events.current().send([event("worker-heartbeat", "w1@host", freq=2.0)])
            events.current().send([task_event("started"), task_event("started")])
            while len(found) < 4:
                connection.drain_events(timeout=20)
    assert [shape(message) for message in found[2:]] == [shape(message) for message in found[:2]]
    assert set(found[2].decode()) == set(found[0].decode())
    assert set(found[3].decode()[0]) == set(found[1].decode()[0])


@pytest.mark.parametrize("given", ["app.connection", "kombu", "channel", "celery"])
def test_a_connection_of_whoever_listens(broker, theirs, settings, given):
    """Receivers and dispatchers go where the connection that they are given leads, whatever BROKER_URL says, and leave it open."""
    url, options = broker
    settings.DJANGO_TASKS = {"BROKER_URL": "db://default", "BROKER_TRANSPORT_OPTIONS": options}
    makers = {"app.connection": lambda: app.connection(url), "celery": theirs.connection_for_read}
    with makers.get(given, lambda: Connection(url, transport_options=options))() as connection:
        place = connection.channel() if given == "channel" else connection
        found = []
        recv = app.events.Receiver(place, handlers={"shop-sold": found.append})
        heard_all = recv.itercapture(limit=2, timeout=20)
        with app.events.Dispatcher(place, hostname="me@host") as dispatcher:
            sender = threading.Thread(target=send_until, args=(dispatcher, lambda: found))
            sender.start()
            next(heard_all)
            sender.join()
        heard_all.close()
        connection.ensure_connection(max_retries=1)
        assert connection.connected
    assert (found[0]["item"], found[0]["hostname"]) == ("tea", "me@host")


def send_until(dispatcher, done):
    """Send an event again and again: the receiver begins to listen when it is first asked."""
    deadline = time.monotonic() + 20
    while not done() and time.monotonic() < deadline:
        dispatcher.send("shop-sold", item="tea")
        time.sleep(0.02)


@pytest.fixture
def celery(broker, tmp_path):
    """``celery(...)`` starts a command of Celery's on the same broker."""
    url, options = broker
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    environment |= {"FLEET_BROKER_URL": url, "FLEET_TRANSPORT_OPTIONS": json.dumps(options), "FLEET_QUEUE": f"q-{uuid.uuid4().hex}"}
    environment |= {"FLEET_RESULT_BACKEND": "cache+memory://", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    started = []

    def start(*arguments):
        command = [sys.executable, "-m", "celery", "-A", "tests.interop.celery_fleet", *arguments]
        started.append(WorkerProcess(environment, command=command))
        return started[-1], environment["FLEET_QUEUE"]

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stop()


def test_celerys_dump_prints_ours(celery):
    """``celery events --dump`` shows a task of ours by its name."""
    process, _ = celery("events", "--dump")
    process.says("starting capture")
    # It subscribes some time after it has said so.
    for _ in range(100):
        events.current().send(SENT)
        if "task succeeded: shop.add(id-1)" in process.output:
            break
        with suppress(Exception):
            process.process.wait(0.2)
    process.says("task received: shop.add(id-1) args=(2, 3) kwargs={}")
    process.says("task succeeded: shop.add(id-1)")


def test_we_hear_a_worker_of_celerys(celery, theirs):
    """All that it says of itself and of a task that it runs, from its start to its end, in the words of our state."""
    state = app.events.State()
    with events.current().listen() as receiver:
        process, queue = celery("worker", "-E", "-l", "INFO", "-P", "solo", "-n", "theirs@here", "--without-gossip", "--without-mingle")
        process.says(" ready.")
        good = theirs.send_task("tests.sampleapp.tasks.add", (2, 3), queue=queue).id
        bad = theirs.send_task("tests.sampleapp.tasks.fail", queue=queue).id
        said = []
        while not {"worker-heartbeat", "task-failed", "task-succeeded"} <= {one["type"] for one in said}:
            batch = receiver.receive(20)
            assert batch, f"nothing more came after {[one['type'] for one in said]}"
            said += batch
            for one in batch:
                state.event(one)
    assert {"worker-online", "task-received", "task-started"} <= {one["type"] for one in said}
    task = state.tasks[good]
    assert (task.name, task.args, task.result, task.state) == ("tests.sampleapp.tasks.add", "(2, 3)", "5", "SUCCESS")
    assert (state.tasks[bad].exception, state.workers["theirs@here"].sw_ident) == ("ValueError('broken')", "py-celery")
