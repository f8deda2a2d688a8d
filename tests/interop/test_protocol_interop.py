"""Messages beside a real Celery: what it sends we read, what we send it reads, and both look alike."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import SimpleNamespace
from uuid import UUID

import pytest
from celery import Celery
from celery.app.task import Context
from celery.worker.request import Request
from celery.worker.strategy import proto1_to_proto2
from kombu import Connection, Consumer, Exchange, Producer, Queue
from kombu.message import Message
from kombu.serialization import dumps as kombu_dumps
from kombu.serialization import prepare_accept_content

from django_tasks.messages import SENT_AT, Destination, Envelope, TaskMessage, new_id
from django_tasks.protocol import decode, encode

pytestmark = pytest.mark.interop

ETA = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
LATER = datetime(2999, 1, 1, tzinfo=timezone(timedelta(hours=2)))
SIGNATURE = {"task": "a.c", "args": [1], "kwargs": {}, "options": {"task_id": "c"}, "subtask_type": None, "immutable": False}
TYPED = [ETA, ETA.date(), ETA.time(), Decimal("1.2"), UUID(int=5), b"text", b"\xff"]

#: Our fields, and the same call in Celery's words.
CALLS = {
    "plain": ({"args": (2, 3)}, {"args": (2, 3)}),
    "named": ({"args": (), "kwargs": {"x": [1, {"y": None}]}}, {"kwargs": {"x": [1, {"y": None}]}}),
    "eta": ({"args": (1,), "eta": ETA, "expires": LATER}, {"args": (1,), "eta": ETA, "expires": LATER}),
    "limits": ({"time_limit": 60, "soft_time_limit": 30.5}, {"time_limit": 60, "soft_time_limit": 30.5}),
    "family": (
        {"root_id": "r", "parent_id": "p", "group": "g", "group_index": 3},
        {"root_id": "r", "parent_id": "p", "group_id": "g", "group_index": 3},
    ),
    "links": (
        {"embed": {"callbacks": [SIGNATURE], "errbacks": [SIGNATURE], "chain": [SIGNATURE], "chord": SIGNATURE}},
        {"callbacks": [SIGNATURE], "errbacks": [SIGNATURE], "chain": [SIGNATURE], "chord": SIGNATURE},
    ),
    "odds": (
        {"retries": 4, "shadow": "s", "reply_to": "there", "ignore_result": True, "replaced_task_nesting": 2},
        {"retries": 4, "shadow": "s", "reply_to": "there", "ignore_result": True, "replaced_task_nesting": 2},
    ),
    "stamps": (
        {"stamped_headers": ["who", "why"], "stamps": {"who": "me", "why": ["x"]}},
        {"stamped_headers": ["who", "why"], "who": "me", "why": ["x"]},
    ),
    "typed": ({"args": (TYPED,)}, {"args": (TYPED,)}),
    "unicode": ({"args": ("Grüße \u2028",)}, {"args": ("Grüße \u2028",)}),
}

#: Calls whose arguments Celery shows by rules of its own, for bytes and rare characters; ours is Python's repr.
SHOWN_DIFFERENTLY = {"typed", "unicode"}


@pytest.fixture(scope="module")
def celery_app():
    app = Celery("interop", broker="memory://", backend=None, set_as_current=False)
    app.conf.update(task_default_queue="q", accept_content=["json", "yaml", "pickle", "msgpack"], enable_utc=True, timezone="UTC")

    @app.task(name="a.b", bind=True)
    def anything(self, *args, **kwargs):
        """Take whatever comes."""

    yield app
    app.close()


def ours(fields, serializer="json", compression=None):
    # Calls of known tasks say whether their result is wanted; as_task_v2 supposes that it is.
    message = TaskMessage(**{"id": "the-id", "task": "a.b", "origin": "gen1@h", "ignore_result": False, **fields})
    destination = Destination(queue="q", exchange="", routing_key="q", serializer=serializer, compression=compression)
    return message, encode([message], [destination], origin="x")[0]


def theirs(app, options, serializer="json"):
    made = app.amqp.as_task_v2("the-id", "a.b", origin="gen1@h", **options)
    content_type, content_encoding, body = kombu_dumps(made.body, serializer=serializer)
    return Envelope(
        body=body.encode() if isinstance(body, str) else body,
        content_type=content_type,
        content_encoding=content_encoding,
        headers=made.headers,
        properties=made.properties,
        queue="q",
        exchange="",
        routing_key="q",
    )


def as_kombu(envelope, accept=("json",)):
    """Turn an envelope into the message that a Celery worker would hold."""
    return Message(
        body=envelope.body,
        content_type=envelope.content_type,
        content_encoding=envelope.content_encoding,
        headers=dict(envelope.headers),
        properties=dict(envelope.properties),
        delivery_info=dict(envelope.properties.get("delivery_info") or {}),
        accept=prepare_accept_content(list(accept)),
    )


@pytest.mark.parametrize("name", CALLS)
def test_headers_and_body_are_those_of_celery(celery_app, name):
    """The same call gives the same headers and the same body, key by key. One header is ours: when it was sent."""
    our_fields, their_options = CALLS[name]
    mine, celerys = ours(our_fields)[1], theirs(celery_app, their_options)
    if name in SHOWN_DIFFERENTLY:
        celerys.headers["argsrepr"] = repr(our_fields["args"])
    own = dict(mine.headers)
    own.pop(SENT_AT, None)
    assert own == celerys.headers
    assert json.loads(mine.body) == json.loads(celerys.body)
    assert (mine.content_type, mine.content_encoding) == (celerys.content_type, celerys.content_encoding)
    assert {key: mine.properties[key] for key in celerys.properties} == celerys.properties


@pytest.mark.parametrize("name", CALLS)
def test_we_read_what_celery_sends(celery_app, name):
    """Decoding Celery's message gives the call that was made."""
    our_fields, their_options = CALLS[name]
    message = decode(theirs(celery_app, their_options), accept=["json"])
    assert (message.id, message.task, message.origin) == ("the-id", "a.b", "gen1@h")
    for field, value in our_fields.items():
        expected = list(value) if field == "args" else value
        assert getattr(message, field) == expected, field
    assert not message.headers


@pytest.mark.parametrize("name", CALLS)
def test_celerys_worker_reads_what_we_send(celery_app, name):
    """Celery's Request, and the context that its tasks see, hold what we sent."""
    our_fields, _ = CALLS[name]
    message, envelope = ours({**our_fields, "headers": {"x-h": 1}})
    request = Request(as_kombu(envelope), app=celery_app, hostname="w@h", task=celery_app.tasks["a.b"])
    assert (request.id, request.type, request.root_id, request.parent_id) == (
        message.id,
        "a.b",
        message.root_id or "the-id",
        message.parent_id,
    )
    assert list(request.time_limits) == [message.time_limit, message.soft_time_limit]
    assert request.args == list(message.args)
    assert request.kwargs == message.kwargs
    assert request._eta == message.eta
    assert request._expires == message.expires
    context = Context(request.request_dict)
    assert (context.id, context.retries, context.group, context.group_index) == (
        "the-id",
        message.retries,
        message.group,
        message.group_index,
    )
    assert (context.ignore_result, context.replaced_task_nesting) == (message.ignore_result, message.replaced_task_nesting)
    assert (context.correlation_id, context.reply_to) == ("the-id", message.reply_to or "")
    assert context.stamped_headers == message.stamped_headers
    assert context.stamps == message.stamps
    assert request.request_dict["x-h"] == 1
    assert request._Request__payload[2] == {"callbacks": None, "errbacks": None, "chain": None, "chord": None, **message.embed}


@pytest.mark.parametrize("serializer", ["json", "yaml", "pickle", "msgpack"])
@pytest.mark.parametrize("compression", [None, "gzip", "bzip2"])
def test_every_serializer_and_compression_crosses(celery_app, serializer, compression):
    """Celery decodes our body in any form, and we decode kombu's."""
    _, envelope = ours({"args": (1, "ü"), "kwargs": {"k": [2]}}, serializer, compression)
    args, kwargs, _ = as_kombu(envelope, [serializer]).payload
    assert (list(args), kwargs) == ([1, "ü"], {"k": [2]})
    message = decode(theirs(celery_app, {"args": [1, "ü"], "kwargs": {"k": [2]}}, serializer), accept=[serializer])
    assert (list(message.args), message.kwargs) == ([1, "ü"], {"k": [2]})


def test_we_read_protocol_1_of_celery(celery_app):
    """The old form reads as Celery's own worker reads it."""
    made = celery_app.amqp.as_task_v1(
        "the-id", "a.b", args=[1], kwargs={"k": 2}, eta=ETA, group_id="g", retries=3, callbacks=[SIGNATURE], chord=SIGNATURE, time_limit=9
    )
    content_type, content_encoding, body = kombu_dumps(made.body, serializer="json")
    envelope = Envelope(
        body=body.encode(),
        content_type=content_type,
        content_encoding=content_encoding,
        headers=made.headers,
        properties=made.properties,
        queue="q",
    )
    message = decode(envelope, accept=["json"])
    (args, kwargs, embed), headers, _, _ = proto1_to_proto2(SimpleNamespace(headers={}), dict(made.body))
    assert (message.args, message.kwargs, message.embed) == (args, kwargs, embed)
    assert (message.id, message.task, message.retries) == (headers["id"], headers["task"], headers["retries"])
    assert (message.group, message.eta, message.time_limit) == (headers["group"], ETA, 9)
    assert not message.headers


@pytest.mark.parametrize("compression", [None, "gzip"])
def test_what_celery_publishes_through_kombu_is_read(celery_app, compression):
    """apply_async to a transport, and a raw consumer there: the envelope that kombu hands out decodes."""
    queue = f"interop-{new_id()}"
    celery_app.send_task(
        "a.b", args=(2, 3), kwargs={"k": "v"}, queue=queue, priority=4, headers={"x-h": {"n": 1}}, compression=compression, expires=3600
    )
    kept = []
    with celery_app.connection() as connection, connection.channel() as channel:
        bound = Queue(queue, Exchange(""), routing_key=queue)
        with Consumer(channel, [bound], on_message=kept.append, accept=["json"], no_ack=True):
            connection.drain_events(timeout=50)
    (got,) = kept
    # kombu has decompressed the body already, and left the header that says how.
    headers = {name: value for name, value in got.headers.items() if name != "compression"}
    message = decode(
        Envelope(
            body=got.body.encode() if isinstance(got.body, str) else got.body,
            content_type=got.content_type,
            content_encoding=got.content_encoding,
            headers=headers,
            properties=got.properties,
            queue=queue,
        ),
        accept=["json"],
    )
    assert (message.task, message.args, message.kwargs, message.priority) == ("a.b", [2, 3], {"k": "v"}, 4)
    assert message.headers == {"x-h": {"n": 1}}
    assert message.expires is not None
    assert message.expires.utcoffset() == timedelta(0)


def test_what_we_encode_travels_through_kombu(celery_app):
    """An envelope of ours, published by kombu as it is, arrives at a Celery worker's doorstep as a task."""
    queue = f"interop-{new_id()}"
    _, envelope = ours({"args": (2, 3), "expires": LATER}, "json", "gzip")
    properties = {
        name: value
        for name, value in envelope.properties.items()
        if name not in {"delivery_info", "delivery_tag", "expiration", "delivery_mode"}
    }
    kept = []
    with Connection("memory://") as connection, connection.channel() as channel:
        bound = Queue(queue, Exchange(""), routing_key=queue)
        bound(channel).declare()
        Producer(channel).publish(
            envelope.body,
            routing_key=queue,
            content_type=envelope.content_type,
            content_encoding=envelope.content_encoding,
            headers=dict(envelope.headers),
            **properties,
        )
        with Consumer(channel, [bound], on_message=kept.append, accept=["json"], no_ack=True):
            connection.drain_events(timeout=50)
    request = Request(kept[0], app=celery_app, hostname="w@h", task=celery_app.tasks["a.b"])
    assert (request.id, request.args, request._expires) == ("the-id", [2, 3], LATER)


def test_long_arguments_are_shown_in_part_by_both(celery_app):
    """Neither side sends a long repr: ours has at most 1,024 characters, Celery's not many more."""
    mine, celerys = ours({"args": ("x" * 5000,)})[1], theirs(celery_app, {"args": ("x" * 5000,)})
    for envelope in (mine, celerys):
        assert 100 < len(envelope.headers["argsrepr"]) < 1100
        assert decode(envelope, accept=["json"]).args == ["x" * 5000]
