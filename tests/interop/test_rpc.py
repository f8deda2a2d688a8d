"""Results over rpc://: a Celery client reads what we send, we read what Celery's backend sends, over RabbitMQ and Redis."""

import time

import celery
import pytest
from celery import Celery
from django.test import override_settings

from django_tasks import app, clock, states
from django_tasks.canvas.calls import build_message
from django_tasks.context import Request, running
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.exceptions import TimeoutError as TaskTimeoutError
from django_tasks.messages import new_id
from django_tasks.result_backends import open_result_backend
from django_tasks.result_backends.backend import NewChord, ResultMeta
from django_tasks.result_backends.encoding import decode, encode_value
from tests.processes import SOON
from tests.services import SERVICES

pytestmark = pytest.mark.interop


@pytest.fixture(
    params=[
        pytest.param(SERVICES["rabbitmq"].url, marks=pytest.mark.rabbitmq, id="rabbitmq"),
        pytest.param(f"{SERVICES['redis'].url.rpartition('/')[0]}/3", marks=pytest.mark.redis, id="redis"),
    ]
)
def broker(request, settings):
    settings.DJANGO_TASKS = {"BROKER_URL": request.param, "RESULT_BACKEND": "rpc://"}
    return request.param


@pytest.fixture
def backend(broker):
    backend = open_result_backend("rpc://")
    yield backend
    backend.close()


@pytest.fixture
def theirs(broker):
    with Celery("theirs", broker=broker, backend="rpc://", set_as_current=False) as theirs:
        yield theirs


def stored(value, status=states.SUCCESS, **fields):
    text, content_type, content_encoding = encode_value(value)
    form = {"result": text, "content_type": content_type, "content_encoding": content_encoding}
    return ResultMeta(**{"task_id": new_id(), "status": status, "date_done": clock.now(), **form, **fields})


def test_a_celery_client_reads_ours(backend, theirs):
    """Value and exception of a call that a Celery client has sent must reach it."""
    with theirs.connection_for_write() as connection:
        # What apply_async of its client does: the queue is there before anybody answers.
        theirs.backend.on_task_call(theirs.amqp.Producer(connection), "1")
        good, bad = (
            stored(value, status, reply_to=theirs.thread_oid) for value, status in ((5, "SUCCESS"), (ValueError("bad"), "FAILURE"))
        )
        backend.store([good, bad])
        assert theirs.AsyncResult(good.task_id).get(timeout=50) == 5
        with pytest.raises(ValueError, match="bad"):
            theirs.AsyncResult(bad.task_id).get(timeout=50)
        theirs.backend.result_consumer.stop()


def test_we_read_what_celery_sends(backend, theirs):
    """What Celery's backend sends to our queue, as its worker would, must be read: waiting, and looking."""
    request = celery.app.task.Context(reply_to=backend.reply_to, correlation_id="one", id="one", children=[])
    theirs.backend.store_result("one", {"x": [1]}, "SUCCESS", request=request)
    (meta,) = backend.wait(["one"], 10)
    assert decode(meta) == {"x": [1]}
    request.update(correlation_id="two", id="two")
    theirs.backend.store_result("two", KeyError("k"), "FAILURE", traceback="tb", request=request)
    end = time.monotonic() + SOON
    while "two" not in (found := backend.fetch(["two"])):
        assert time.monotonic() < end
    assert (type(decode(found["two"])), found["two"].traceback) == (KeyError, "tb")


def test_only_the_caller_reads(backend, broker):
    """Another process, for which another backend stands, must know nothing of the results."""
    other = open_result_backend("rpc://")
    assert other.reply_to != backend.reply_to
    meta = stored(5, reply_to=backend.reply_to)
    other.store([meta, stored(6)])
    assert next(backend.wait([meta.task_id], 10)).result == "5"
    with pytest.raises(TaskTimeoutError):
        next(other.wait([meta.task_id], 0.05))
    assert other.fetch([meta.task_id]) == {}
    other.close()


def test_messages_say_where_to_answer(broker):
    """A call must carry this process's queue; what a running task sends must carry the queue of who called the task."""
    message = build_message("a.b", (), {}, {})
    assert message.reply_to == app.backend.reply_to
    assert build_message("a.b", (), {}, {"reply_to": "mine"}).reply_to == "mine"
    with running(Request(message=build_message("a.b", (), {}, {"reply_to": "caller"}))):
        assert build_message("a.c", (), {}, {}).reply_to == "caller"


def test_a_lost_connection_is_opened_again(backend):
    """After the connection has broken, results that wait in the queue must still be read."""
    meta = stored(5, reply_to=backend.reply_to)
    backend.store([meta])
    _, outbox, inbox = backend._both
    for line in (outbox, inbox):
        line.connection.collect()
    other = stored(6, reply_to=backend.reply_to)
    backend.store([other])
    assert {each.result for each in backend.wait([meta.task_id, other.task_id], 10)} == {"5", "6"}


def test_what_rpc_can_not_do(backend):
    """Chords and saved groups need a store; that must be said before anything is sent."""
    for call in (
        lambda: backend.open_chords([NewChord("g", 1, {})]),
        lambda: backend.store_group("g", []),
        lambda: backend.fetch_group("g"),
    ):
        with pytest.raises(NotImplementedError, match="use db://"):
            call()


@pytest.mark.parametrize("url", ["db://default", "memory://"])
def test_a_message_broker_is_needed(url):
    """Brokers that carry only their own messages must be refused, with what there is instead."""
    with override_settings(DJANGO_TASKS={"BROKER_URL": url}), pytest.raises(ImproperlyConfigured, match="no message broker"):
        open_result_backend("rpc://")
