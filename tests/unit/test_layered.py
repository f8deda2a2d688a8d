"""What messages have in common is encoded once: every message must come out as if it were the only one."""

import copy
import json
import pickle
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from django_tasks import client, clock, protocol, signals
from django_tasks.brokers.database.rows import insert_rows
from django_tasks.brokers.kombu.codec import read_table, write_table
from django_tasks.brokers.redis import wire
from django_tasks.layered import MOST_SHARED, Layered, Shared, changeable, layers
from django_tasks.messages import HIDDEN, NOTHING, Destination, TaskMessage, new_id, new_ids, repeatable_ids
from django_tasks.serializers import dumps_json

SEEDS = 60
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TEXTS = ("a.b", "", 'quo"te', "back\\slash", "line\nfeed", "ü€😀", "\x00", "\ud800", "}", "%b%d", "1")
SIGNATURE = {"task": "a.c", "args": [], "kwargs": {}, "options": {"task_id": "7"}, "subtask_type": None, "immutable": False}


class Maker:
    """Makes the messages of a seed. Few different values, so that many messages have some in common and some not."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.embeds = [NOTHING, {}, {"chain": [SIGNATURE]}, {"chord": SIGNATURE, "callbacks": [SIGNATURE]}]

    def one_of(self, *values):
        return self.random.choice(values)

    def text(self):
        return self.one_of(*TEXTS)

    def message(self):
        one_of, text = self.one_of, self.text
        stamped = one_of(None, None, [], ["s"])
        return TaskMessage(
            id=one_of(new_id(), text() or "x"),
            task=one_of("a.b", text()),
            args=one_of((), [1, "two"], (text(), None, 1.5)),
            kwargs=one_of(NOTHING, {}, {"k": [text()]}),
            # One moment in two ways of writing it, and equal numbers in three.
            eta=one_of(None, NOW, NOW.astimezone(timezone(timedelta(hours=1)))),
            expires=one_of(None, None, NOW),
            time_limit=one_of(None, 1, 1.0, True),
            soft_time_limit=one_of(None, 0, 0.0, False),
            ignore_result=one_of(None, True, False, 1, 0),
            retries=one_of(0, 1, True),
            replaced_task_nesting=one_of(0, 2),
            root_id=one_of(None, "root", text()),
            parent_id=one_of(None, text()),
            # A list is nobody's group, but somebody may send it.
            group=one_of(None, "g", text(), ["g"]),
            group_index=one_of(None, 0, 3),
            shadow=one_of(None, text()),
            reply_to=one_of(None, "there", ["nowhere"]),
            origin=one_of(None, text()),
            stamped_headers=stamped,
            stamps={"s": text()} if stamped else one_of(NOTHING, {}),
            argsrepr=one_of(None, text()),
            kwargsrepr=one_of(None, text()),
            embed=one_of(*self.embeds),
            headers=one_of(
                NOTHING, {}, {"x-h": text(), "task": "not this", "stamps": {"nor": "this"}}, {HIDDEN: ["args"], "n": {"m": [1]}}
            ),
        )

    def destination(self):
        one_of = self.one_of
        return Destination(
            queue=one_of("q", "r"),
            exchange=one_of("", "e"),
            routing_key=one_of("q", 'k"'),
            priority=one_of(0, 3),
            serializer=one_of("json", "json", "yaml"),
            compression=one_of(None, None, "gzip"),
        )

    def calls(self, count):
        made = []
        while len(made) < count:
            message, destination = self.message(), self.destination()
            if destination.serializer == "yaml":
                # YAML knows neither half a surrogate pair nor NUL.
                message = replace(message, args=(1,), kwargs=NOTHING)
            made.append((message, destination))
        return made


@pytest.fixture(autouse=True)
def _frozen(monkeypatch):
    """``expiration`` is what is left until a message expires."""
    monkeypatch.setattr(clock, "now", lambda: NOW - timedelta(minutes=1))


def envelopes(calls):
    return protocol.encode([message for message, _ in calls], [destination for _, destination in calls], origin="gen1@h")


def alone(call):
    """Encode a message with nothing remembered."""
    protocol._headers.cache_clear()
    protocol._shared_properties.cache_clear()
    return envelopes([call])[0]


def exact(value):
    """Return a text that also tells True, 1 and 1.0 apart."""
    return json.dumps(value, sort_keys=True, default=dict)


def plain(envelope):
    """Return the envelope with nothing in it that is shared."""
    return replace(envelope, headers=dict(envelope.headers), properties=dict(envelope.properties))


def assert_same(found, expected):
    assert exact(found.headers) == exact(expected.headers)
    assert exact(found.properties) == exact(expected.properties)
    assert plain(found) == plain(expected)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_message_among_others_is_as_if_alone(seed):
    """Neither what was sent before nor what is sent with it changes a message."""
    calls = Maker(seed).calls(30)
    first, again = envelopes(calls), envelopes(calls)
    for call, one, other in zip(calls, first, again, strict=True):
        expected = alone(call)
        assert_same(one, expected)
        assert_same(other, expected)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_message_says_what_the_call_does(seed):
    """Headers, properties and body are those of the call itself."""
    for message, destination in Maker(seed).calls(30):
        (envelope,) = envelopes([(message, destination)])
        headers = envelope.headers
        given = {name: value for name, value in message.headers.items() if name not in {"task", "stamps"}}
        assert given.items() <= dict(headers).items()
        for name in ("task", "id", "shadow", "group", "group_index", "retries", "parent_id", "ignore_result", "replaced_task_nesting"):
            assert exact(headers[name]) == exact(getattr(message, name)), name
        assert exact(headers["timelimit"]) == exact([message.time_limit, message.soft_time_limit])
        assert headers["eta"] == (message.eta and message.eta.isoformat())
        assert headers["root_id"] == (message.root_id or message.id)
        assert headers["origin"] == (message.origin or "gen1@h")
        assert headers["stamped_headers"] == message.stamped_headers
        assert headers["stamps"] == dict(message.stamps)
        assert envelope.properties["correlation_id"] == message.id
        assert envelope.properties["reply_to"] == (message.reply_to or "")
        assert envelope.properties.get("expiration") == (None if message.expires is None else "60000")
        if destination.serializer == "json" and destination.compression is None:
            embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None, **message.embed}
            assert envelope.body.decode() == dumps_json([message.args, dict(message.kwargs), embed])


@pytest.mark.parametrize("seed", range(SEEDS))
def test_brokers_write_what_is_shared_as_if_it_were_not(monkeypatch, seed):
    """Redis' JSON, the rows of the database and AMQP's tables read the same with layers and without."""
    monkeypatch.setattr(wire._tags, "next", lambda: b"tag")
    for envelope in envelopes(Maker(seed).calls(30)):
        assert exact(json.loads(wire.write(envelope, 3))) == exact(json.loads(wire.write(plain(envelope), 3)))
        (row,), (expected,) = insert_rows([envelope], NOW, str), insert_rows([plain(envelope)], NOW, str)
        assert [exact(json.loads(row[at])) for at in (9, 10)] == [exact(json.loads(expected[at])) for at in (9, 10)]
        assert row[:9] + row[11:] == expected[:9] + expected[11:]
        if "\ud800" not in str(dict(envelope.headers)):
            assert exact(read_table(write_table(envelope.headers), 0)[0]) == exact(read_table(write_table(dict(envelope.headers)), 0)[0])


def test_a_group_shares_its_headers():
    """The layer is one object for all members: otherwise each would be written anew."""
    calls = [
        (TaskMessage(id=new_id(), task="a.b", group="g", group_index=index, args=(index,), parent_id="p"), Destination(queue="q"))
        for index in range(3)
    ]
    found = envelopes(calls)
    assert len({id(envelope.headers.shared) for envelope in found}) == 1
    assert len({id(envelope.properties.shared) for envelope in found}) == 1


def test_little_is_remembered():
    """Calls that have nothing in common don't fill the memory."""
    envelopes([(TaskMessage(id="1", task="a.b", group=str(number)), Destination(queue="q")) for number in range(2 * MOST_SHARED)])
    assert protocol._headers.cache_info().currsize == MOST_SHARED


def test_a_layered_mapping_is_like_any_other():
    """It can be read, compared, copied and pickled, and not be changed."""
    made = Layered(Shared(a=1, b=[2]), {"c": 3})
    assert made == {"a": 1, "b": [2], "c": 3} == dict(made)
    assert (made["a"], made["c"], made.get("b"), made.get("d"), made.get("d", 4), len(made)) == (1, 3, [2], None, 4, 3)
    assert "c" in made
    assert "d" not in made
    with pytest.raises(KeyError):
        made["d"]
    with pytest.raises(TypeError):
        made["a"] = 2
    assert copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == made
    assert repr(made) == "{'a': 1, 'b': [2], 'c': 3}"
    assert layers({"a": 1}) == ({}, {"a": 1})


def test_what_is_changed_in_a_copy_stays_there():
    """Not even the lists and dicts of the shared layer are the copy's."""
    shared = Shared(limits=[1, 2], stamps={})
    found = changeable(Layered(shared, {"id": "1"}))
    found["limits"].append(3)
    found["stamps"]["s"] = found["id"] = "2"
    assert shared == {"limits": [1, 2], "stamps": {}}
    assert changeable({"a": 1}) == {"a": 1}


def test_receivers_change_the_headers_of_one_message(monkeypatch):
    """``before_task_publish`` may change what it is given; the next message of the kind knows nothing of it."""
    first, second = envelopes([(TaskMessage(id=id_, task="a.b"), Destination(queue="q")) for id_ in "12"])

    def trace(headers, properties, **kwargs):
        headers["traceparent"] = headers["stamps"]["trace"] = properties["delivery_info"]["trace"] = "t"

    signals.before_task_publish.connect(trace, weak=False)
    try:
        changed = client._announced(first)
    finally:
        signals.before_task_publish.disconnect(trace)
    sent = json.loads(wire.write(changed, 0))
    assert sent["headers"]["traceparent"] == sent["headers"]["stamps"]["trace"] == "t"
    assert b"trace" not in wire.write(second, 0)
    assert b"trace" not in wire.write(first, 0)


def test_many_ids_are_like_single_ones():
    """They are random UUIDs, all different; inside ``repeatable_ids`` they follow from the seed, in the order of single ones."""
    found = new_ids(1000)
    assert len(set(found)) == 1000
    assert {(len(one), one[14], one[19] in "89ab") for one in found} == {(36, "4", True)}
    with repeatable_ids("seed"):
        together = new_ids(3)
    with repeatable_ids("seed"):
        assert [new_id() for _ in range(3)] == together
    assert new_ids(0) == []
