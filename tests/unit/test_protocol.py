"""Celery's message protocol."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from django_tasks import clock
from django_tasks.canvas.calls import amend_message, build_message
from django_tasks.exceptions import ContentDisallowed, DecodeError, EncodeError, InvalidTaskError
from django_tasks.messages import Destination, Envelope, TaskMessage, new_id
from django_tasks.protocol import REPR_LENGTH, decode, encode
from django_tasks.reprs import cut_repr

HERE = Destination(queue="q", exchange="", routing_key="q", priority=3)
ETA = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
SIGNATURE = {"task": "a.c", "args": [], "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}
FULL = TaskMessage(
    id="1",
    task="a.b",
    args=[1, "two"],
    kwargs={"k": [3]},
    queue="q",
    exchange="",
    routing_key="q",
    priority=3,
    eta=ETA,
    expires=datetime(2999, 1, 1, tzinfo=UTC),
    retries=2,
    root_id="r",
    parent_id="p",
    group="g",
    group_index=4,
    time_limit=60,
    soft_time_limit=30.5,
    ignore_result=True,
    shadow="shown",
    reply_to="there",
    origin="gen1@h",
    replaced_task_nesting=1,
    stamped_headers=["s"],
    stamps={"s": "x"},
    argsrepr="[1, 'two']",
    kwargsrepr="{'k': [3]}",
    embed={"callbacks": [SIGNATURE], "errbacks": None, "chain": [SIGNATURE], "chord": None},
    headers={"x-h": 1, "headers": {"trace": "t"}},
)


def sent(message, destination=HERE):
    return encode([message], [destination], origin="gen9@here")[0]


def read(envelope, accept=("json",)):
    return decode(envelope, accept=accept)


def version_1(body, **headers):
    return Envelope(
        body=json.dumps(body).encode(), content_type="application/json", content_encoding="utf-8", headers=headers, properties={}, queue="q"
    )


def test_the_headers_of_a_plain_call_are_celerys():
    """All headers of protocol 2 are there, with Celery's values for what is not set; beside them when it was sent."""
    envelope = sent(TaskMessage(id="1", task="a.b", args=(2, 3), ignore_result=False))
    assert clock.now() - timedelta(seconds=60) <= datetime.fromisoformat(envelope.headers["x-sent-at"]) <= clock.now()
    assert envelope.headers == {
        "x-sent-at": envelope.headers["x-sent-at"],
        "lang": "py",
        "task": "a.b",
        "id": "1",
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": "1",
        "parent_id": None,
        "argsrepr": "(2, 3)",
        "kwargsrepr": "{}",
        "origin": "gen9@here",
        "ignore_result": False,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }
    json.dumps(dict(envelope.headers))


def test_the_properties_are_celerys():
    """Properties carry id, reply, priority and address; delivery tags are the brokers' to give."""
    assert sent(TaskMessage(id="1", task="a.b")).properties == {
        "correlation_id": "1",
        "reply_to": "",
        "delivery_mode": 2,
        "delivery_info": {"exchange": "", "routing_key": "q"},
        "priority": 3,
    }


def test_properties_that_the_caller_chose_travel():
    """The options of kombu that are properties of the message, under AMQP's names; what kombu works out itself has no effect."""
    chosen = {"app_id": "shop", "cluster_id": "c", "message_id": "m", "timestamp": 7, "type": "order", "user_id": "guest"}
    no_effect = {
        "mandatory": True,
        "immediate": False,
        "content_encoding": "latin-1",
        "content_type": "x/y",
        "timeout": 3,
        "confirm_timeout": 3,
    }
    message = build_message("a.b", (), {}, {"task_id": "1", "delivery_mode": "transient", **chosen, **no_effect})
    assert dict(sent(message).properties) == {**sent(TaskMessage(id="1", task="a.b")).properties, **chosen, "delivery_mode": 1}
    again = amend_message(message, {"app_id": "other", "delivery_mode": 2})
    assert again.properties == {**chosen, "app_id": "other", "delivery_mode": 2}


def test_the_body_is_three_parts():
    """args, kwargs and embed, as plain bytes of JSON."""
    envelope = sent(TaskMessage(id="1", task="a.b", args=(2,), kwargs={"k": 3}))
    assert json.loads(envelope.body) == [[2], {"k": 3}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    assert (envelope.content_type, envelope.content_encoding) == ("application/json", "utf-8")


def test_the_envelope_is_addressed():
    """Queue, priority and the time before which nobody may have it are what brokers read."""
    envelope = sent(FULL, Destination(queue="z", exchange="e", routing_key="k", priority=7))
    assert (envelope.queue, envelope.exchange, envelope.routing_key, envelope.priority) == ("z", "e", "k", 7)
    assert envelope.not_before == ETA
    assert envelope.properties["delivery_info"] == {"exchange": "e", "routing_key": "k"}


def test_hard_limits_come_first():
    """Timelimit is [hard, soft]."""
    assert sent(FULL).headers["timelimit"] == [60, 30.5]


def test_a_message_comes_back_as_it_went():
    """Every field survives encoding and decoding."""
    assert read(sent(FULL)) == FULL


def test_custom_headers_lie_beside_the_protocols():
    """They are flat, come back as they were, and never displace a header of the protocol."""
    message = TaskMessage(id="1", task="a.b", headers={"x-h": 1, "headers": {"y": 2}, "id": "evil", "retries": 7})
    headers = sent(message).headers
    assert (headers["x-h"], headers["headers"], headers["id"], headers["retries"]) == (1, {"y": 2}, "1", 0)
    assert read(sent(message)).headers == {"x-h": 1, "headers": {"y": 2}}


def test_what_belongs_to_one_delivery_is_no_custom_header():
    """Compression and redelivered are not sent on with a retry."""
    envelope = sent(TaskMessage(id="1", task="a.b"))
    envelope = replace(envelope, headers={**envelope.headers, "redelivered": True})
    assert not read(envelope).headers


@pytest.mark.parametrize("name", ["\ud800", "x" * 256, 5, ["q"], {"q": 1}, float("inf")])
def test_a_caller_that_no_broker_can_name_is_refused(name):
    """It is an InvalidTaskError, of which the message becomes a dead letter."""
    envelope = sent(TaskMessage(id="1", task="a.b"))
    with pytest.raises(InvalidTaskError, match="headers can't be read"):
        read(replace(envelope, properties={**envelope.properties, "reply_to": name}))


def test_a_bomb_of_aliases_is_shown_in_part():
    """YAML holds once what may be in a value a billion times; the error about it takes no memory, nor do arguments of this kind."""
    bomb = ["x" * 10_000]
    for _ in range(60):
        bomb = [bomb] * 10
    shown = cut_repr({"a": bomb}, 100)
    assert len(shown) == 100
    assert shown.startswith("{'a': [[[")
    assert len(cut_repr(bomb[:1] * 10 + [{1, 2}, "last"], 1024)) == 1024


@pytest.mark.parametrize("value", [(), (1, "a"), {"k": [1, {"b": (2.5,)}]}, [{1}, frozenset({2}), b"x", None], {(1, 2): "it's"}])
def test_what_is_short_is_shown_as_it_is(value):
    """As Python writes it; cut, it is the beginning of that."""
    assert cut_repr(value, 100) == repr(value)
    assert repr(value).startswith(cut_repr(value, 5).removesuffix("...")) or len(repr(value)) <= 5


def test_reprs_are_cut():
    """Long arguments are shown in part, rude ones not at all; both are sent whole."""

    class Rude(dict):
        def __repr__(self):
            raise RuntimeError("no")

    envelope = sent(TaskMessage(id="1", task="a.b", args=("x" * 5000,), kwargs={"k": Rude(a=1)}))
    assert len(envelope.headers["argsrepr"]) == REPR_LENGTH
    assert envelope.headers["argsrepr"].endswith("...")
    assert "RuntimeError" in envelope.headers["kwargsrepr"]
    assert json.loads(envelope.body)[:2] == [["x" * 5000], {"k": {"a": 1}}]


def test_an_expiring_message_says_so_to_the_broker(monkeypatch):
    """Expiration is milliseconds as text, never negative."""
    monkeypatch.setattr(clock, "now", lambda: ETA)
    assert sent(TaskMessage(id="1", task="a.b", expires=ETA + timedelta(seconds=1.5))).properties["expiration"] == "1500"
    assert sent(TaskMessage(id="1", task="a.b", expires=ETA - timedelta(seconds=1.5))).properties["expiration"] == "0"


def test_serializer_and_compression_of_the_destination_are_used():
    """The envelope says how the body is to be read, and a retry of it goes out in the same form."""
    envelope = sent(
        TaskMessage(id="1", task="a.b", args=(1,)), Destination(queue="q", routing_key="q", serializer="yaml", compression="gzip")
    )
    assert envelope.content_type == "application/x-yaml"
    assert envelope.headers["compression"] == "application/x-gzip"
    message = read(envelope, ["yaml"])
    assert list(message.args) == [1]
    assert (message.serializer, message.compression) == ("yaml", "application/x-gzip")
    again = sent(message, Destination(queue="q", routing_key="q", serializer=message.serializer, compression=message.compression))
    assert (again.content_type, again.headers["compression"]) == (envelope.content_type, envelope.headers["compression"])


@pytest.mark.parametrize("serializer", ["json", "yaml"])
def test_arguments_that_cant_be_sent_name_the_task(serializer):
    """The caller learns which task's arguments are wrong, and what of them."""
    with pytest.raises(EncodeError, match=r"'a\.b'.*object"):
        sent(TaskMessage(id="1", task="a.b", args=(object(),)), Destination(queue="q", routing_key="q", serializer=serializer))


def test_many_messages_keep_their_order():
    """A batch comes out as it went in, and must have as many destinations as messages."""
    messages = [TaskMessage(id=str(i), task="a.b", args=(i,)) for i in range(50)]
    envelopes = encode(messages, [HERE] * 50, origin="x")
    assert [read(envelope).args for envelope in envelopes] == [[i] for i in range(50)]
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        encode(messages, [HERE], origin="x")


def test_what_a_sender_knows_is_kept():
    """Origin and root_id of the message win over those of the process."""
    headers = sent(FULL).headers
    assert (headers["origin"], headers["root_id"]) == ("gen1@h", "r")


@pytest.mark.parametrize("text", ["2026-01-02T05:04:05.000006+02:00", "2026-01-02T03:04:05.000006Z", "2026-01-02T03:04:05.000006"])
def test_times_of_any_offset_are_read(text):
    """Eta and expires of other clients come in any offset; naive means UTC."""
    envelope = sent(TaskMessage(id="1", task="a.b"))
    message = read(replace(envelope, headers={**envelope.headers, "eta": text, "expires": text}))
    assert (message.eta, message.expires) == (ETA, ETA)


def test_a_sparse_message_is_read():
    """Older clients leave headers out; task, id and body are enough."""
    envelope = replace(
        sent(TaskMessage(id="1", task="a.b", args=(1,))), headers={"task": "a.b", "id": "1", "timelimit": None, "retries": None}
    )
    assert read(envelope) == TaskMessage(id="1", task="a.b", args=[1], kwargs={}, queue="q", exchange="", routing_key="q", priority=3)


@pytest.mark.parametrize(
    "body",
    [[], [1, {}, {}], [[], [], {}], [[], {}, []], {"a": 1}, 5, None, [[], {}, {}, {}], "abc"],
    ids=repr,
)
def test_a_body_that_is_no_call_is_invalid(body):
    """Wrong parts are an InvalidTaskError that shows them."""
    envelope = replace(sent(TaskMessage(id="1", task="a.b")), body=json.dumps(body).encode())
    with pytest.raises(InvalidTaskError):
        read(envelope)


@pytest.mark.parametrize(
    "headers",
    [
        {"id": None},
        {"id": 5},
        {"task": 5},
        {"eta": "tomorrow"},
        {"expires": 5},
        {"timelimit": [1, 2, 3]},
        {"timelimit": 5},
        {"timelimit": ["x", None]},
        {"timelimit": [None, []]},
        *({"timelimit": [limit, None]} for limit in (-1, float("nan"), float("-inf"))),
        *({name: number} for name in ("retries", "group_index", "replaced_task_nesting") for number in ("many", -1, 10**30, float("inf"))),
        *({name: "0\ud800"} for name in ("id", "task", "root_id", "parent_id", "group")),
    ],
    ids=repr,
)
def test_headers_that_cant_be_read_are_invalid(headers):
    """A broken header is an InvalidTaskError, never another exception."""
    envelope = sent(TaskMessage(id="1", task="a.b"))
    with pytest.raises(InvalidTaskError, match="headers can't be read"):
        read(replace(envelope, headers={**envelope.headers, **headers}))


def test_a_message_without_an_id_is_invalid():
    """The id is not made up."""
    envelope = sent(TaskMessage(id="1", task="a.b"))
    with pytest.raises(InvalidTaskError, match="id"):
        read(replace(envelope, headers={"task": "a.b"}))


def test_bodies_that_are_refused_or_broken():
    """The accept list and the decoder speak for themselves."""
    with pytest.raises(ContentDisallowed):
        read(sent(FULL, Destination(queue="q", routing_key="q", serializer="pickle")))
    with pytest.raises(DecodeError):
        read(replace(sent(FULL), body=b"{"))


def test_protocol_1_is_read():
    """The old form has everything in its body."""
    message = read(
        version_1(
            {
                "task": "a.b",
                "id": "1",
                "args": [1],
                "kwargs": {"k": 2},
                "retries": 3,
                "eta": ETA.isoformat(),
                "expires": None,
                "callbacks": [SIGNATURE],
                "errbacks": None,
                "taskset": "g",
                "chord": SIGNATURE,
                "utc": True,
                "timelimit": [9, 8],
            },
            tracing="t",
        )
    )
    assert (message.id, message.task, message.args, message.kwargs, message.retries) == ("1", "a.b", [1], {"k": 2}, 3)
    assert (message.eta, message.expires, message.group, message.time_limit, message.soft_time_limit) == (ETA, None, "g", 9, 8)
    assert message.embed == {"callbacks": [SIGNATURE], "errbacks": None, "chain": None, "chord": SIGNATURE}
    assert message.headers == {"tracing": "t"}


def test_protocol_1_in_its_smallest_form():
    """Task and id are enough; local times are taken for ours where utc is off."""
    assert read(version_1({"task": "a.b", "id": "1"})) == TaskMessage(id="1", task="a.b", args=[], kwargs={}, queue="q")
    local = ETA.astimezone().replace(tzinfo=None).isoformat()
    assert read(version_1({"task": "a.b", "id": "1", "utc": False, "eta": local})).eta == ETA


@pytest.mark.parametrize("body", [[], 5, {}, {"task": "a.b"}, {"id": "1"}, [[], {}, {}], {"task": "a", "id": "1", "args": 5}], ids=repr)
def test_what_is_neither_protocol_is_invalid(body):
    """A body without task and id, under headers without task, is no task."""
    with pytest.raises(InvalidTaskError):
        read(version_1(body))


def test_ids_are_random_uuids():
    """new_id makes version 4 UUIDs in the usual form, each another."""
    ids = [new_id() for _ in range(2000)]
    assert len(set(ids)) == 2000
    assert all(re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", each) for each in ids)
    assert {UUID(each).version for each in ids} == {4}
