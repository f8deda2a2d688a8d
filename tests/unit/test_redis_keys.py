"""Names of Redis keys, the order of a queue's lists, transport options, and kombu's JSON, without a server."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from django_tasks.brokers.redis import RedisBroker, wire
from django_tasks.brokers.redis.keys import Keys, holder, label_of
from django_tasks.brokers.redis.options import checked, keys_of
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.messages import Envelope

ROOT = Path(__file__).resolve().parents[2]
OURS = Keys()
CELERYS = Keys(celery_order=True)


def test_a_queues_lists_in_the_order_of_reading():
    """Ours for priorities come before the plain list, and Celery's steps after it; in Celery's order ours are not there."""
    plain = ["q\x06\x163", "q\x06\x166", "q\x06\x169"]
    assert OURS.lists("q") == [*(f"q\x06\x16+{number}" for number in range(9, 0, -1)), "q", *plain]
    assert CELERYS.lists("q") == ["q", *plain]


@pytest.mark.parametrize(("priority", "label"), [(0, ""), (1, "+1"), (9, "+9"), (200, "+9"), (-1, ""), (-4, "3"), (-9, "9"), (-100, "9")])
def test_larger_priorities_lie_in_lists_that_are_read_sooner(priority, label):
    """Above 0 each number has its list up to 9; below, there are Celery's steps."""
    assert OURS.label(priority) == label


@pytest.mark.parametrize(("priority", "label"), [(-3, ""), (0, ""), (2, ""), (3, "3"), (5, "3"), (6, "6"), (9, "9"), (100, "9")])
def test_celerys_order_is_kombus(priority, label):
    """The largest step that is not above the priority, 0 being the most urgent."""
    assert CELERYS.label(priority) == label


def test_priorities_are_read_back_on_one_scale():
    """What came by Celery's lists is less urgent than nothing, whatever number its sender gave it."""
    assert [OURS.priority(label, said) for label, said in (("+4", 4), ("", 0), ("", 2), ("3", 5), ("9", None), ("6", "x"))] == [
        *(4, 0, 0, -5, -9, -6)
    ]
    assert [OURS.priority("3", odd) for odd in (float("inf"), float("nan"), 10**30, -1e300)] == [-3, -3, -255, -3]
    assert CELERYS.priority("3", 5) == 5


def test_transport_options_change_names():
    """Kombu's options change the names of its keys; the prefix stands before each."""
    keys = keys_of(
        checked({"global_keyprefix": "p:", "sep": "/", "priority_steps": range(3), "unacked_key": "u", "unacked_index_key": "i"})
    )
    assert keys.lists("q")[-3:] == ["p:q", "p:q/1", "p:q/2"]
    assert (keys.unacked, keys.unacked_index) == ("p:u", "p:i")
    assert all(name.startswith("p:") for name in (keys.leases, keys.queues, keys.bell("q"), keys.delayed("q"), *keys.binding("x")))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"visibility_timeout": "1h"}, "'visibility_timeout' is '1h', but must be int or float"),
        ({"visibility_timeout": True}, "'visibility_timeout' is True"),
        ({"visibility_timeout": 0}, "a number of seconds above 0"),
        ({"priority_order": "smaller"}, "must be one of larger, celery"),
        ({"queue_order_strategy": "best"}, "round_robin, sorted, priority"),
        ({"priority_steps": [3, 6]}, "0 among them"),
        ({"priority_steps": [0, 12]}, "from 0 to 9"),
        ({"socket_timeout": "5"}, "must be int or float or None"),
        ({"global_keyprefix": None}, "must be str"),
    ],
)
def test_a_wrong_value_says_what_is_allowed(options, said):
    """The message names the option, its value, and what it may be."""
    with pytest.raises(ImproperlyConfigured, match="BROKER_TRANSPORT_OPTIONS") as caught:
        checked(options)
    assert said in str(caught.value)


@pytest.mark.parametrize("options", [{}, {"global_keyprefix": "mine:", "sep": ":", "unacked_key": "held"}])
@pytest.mark.parametrize(
    "name", ["unacked_index", "unacked_mutex", "_kombu.binding.celery", "_django_tasks.queues", "celery-task-meta-1", "q{sep}3", "q{sep}+9"]
)
def test_names_of_other_keys_are_no_queues(options, name):
    """Whatever has to do with a queue must refuse, before the server is asked, a name under which another key lies."""
    keys = keys_of(options)
    name = name.format(sep=keys.sep)
    broker = RedisBroker(None, options)
    for use in (
        lambda: broker.publish([Envelope(body=b"", content_type="", content_encoding="", headers={}, properties={}, queue=name)]),
        lambda: broker.consume(["q", name], consumer_id="c"),
        lambda: broker.purge(name),
    ):
        with pytest.raises(ImproperlyConfigured, match="is no name for a queue on Redis"):
            use()
    assert "is no name" in broker.refusal(name)
    assert broker.size(name) == 0
    assert keys.refusal(keys.unacked_name) is not None
    assert [keys.refusal(fine) for fine in ("q", "unacked2", "my_kombu.binding.x", "orders.3", "q+9")] == [None] * 5


def test_an_unknown_option_is_ignored_with_a_word(caplog):
    """Kombu ignores what it doesn't know; so do we, but say so, with the nearest name. kombu's own options pass in silence."""
    with caplog.at_level(logging.WARNING):
        checked({"visibilty_timeout": 10, "unacked_restore_limit": 5, "fanout_patterns": True})
    (record,) = caplog.records
    assert "'visibilty_timeout'" in record.getMessage()
    assert "did you mean 'visibility_timeout'?" in record.getMessage()


def test_tags_fit_into_a_scoreboard_line():
    """Tags are short however long a worker's name is, and end with the label of their list."""
    tag = f"{holder('celery@' + 'x' * 200 + '/abc/12')}:{2_000_000_000_000_000}:+9"
    assert len(tag) < 64
    assert (label_of(tag), label_of("a:1:")) == ("+9", "")


def envelope(**fields):
    parts = {
        "body": b"[]",
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": {"id": "1"},
        "properties": {},
        "queue": "q",
    }
    return Envelope(**{**parts, **fields})


def test_an_envelope_is_written_as_kombu_writes_it():
    """Kombu's keys, the body in base64, and a delivery tag that is another one each time."""
    first, second = (json.loads(wire.write(envelope(), 3)) for _ in range(2))
    assert first["body"] == "W10="
    assert (first["content-type"], first["content-encoding"], first["headers"]) == ("application/json", "utf-8", {"id": "1"})
    assert first["properties"]["delivery_info"] == {"exchange": "", "routing_key": "q"}
    assert (first["properties"]["body_encoding"], first["properties"]["priority"]) == ("base64", 3)
    assert first["properties"]["delivery_tag"] != second["properties"]["delivery_tag"]


@pytest.mark.parametrize(
    "payload",
    [b"", b"no JSON", b"[1]", b'"text"', b"{}", b"\xff\xfe", b'{"body": "x", "properties": 5}', b'{"body": 5}}', b"[" * 5000,
     b'{"body":"***","properties":{"body_encoding":"base64"}}'],
)  # fmt: skip
def test_what_is_no_message_becomes_one_that_nobody_can_read(payload):
    """Nothing in a list makes reading fail: the bytes arrive as a body of a type that no serializer has."""
    found = wire.read(payload, "q", "", OURS).envelope
    assert (found.body, found.content_type, found.queue) == (payload, "application/x-unreadable", "q")
    assert wire.recounted(payload) == payload or b"redelivered" in wire.recounted(payload)


def test_hand_outs_are_counted_where_kombu_only_marks_them():
    """Our header counts; kombu's mark alone stands for one earlier hand-out."""
    message = {"body": "x", "headers": {"deep": {"empty": [], "none": None}}, "properties": {"delivery_info": {}}}
    fresh = json.dumps(message).encode()
    once = wire.recounted(fresh)
    assert [wire.read(payload, "q", "", OURS).earlier for payload in (fresh, once, wire.recounted(once))] == [0, 1, 2]
    again = json.loads(once)
    assert again["headers"] == {"deep": {"empty": [], "none": None}, "x-delivery-count": 1, "redelivered": True}
    assert again["properties"]["delivery_info"] == {"redelivered": True}
    del again["headers"]["x-delivery-count"]
    assert wire.read(json.dumps(again).encode(), "q", "", OURS).earlier == 1


@pytest.mark.parametrize("queue", ["q", 'quo"te', ',"",', "ü☃", "back\\slash"])
def test_an_entry_gives_back_the_message_as_it_was(queue):
    """Whatever the message is and the queue's name, neither is taken for the other."""
    for payload in (b'{"a": ["",""]}', b"no JSON", b'["","x"]'):
        entry = b"[" + payload + b',"",' + json.dumps(queue).encode() + b"]"
        assert wire.taken_out(entry) == (payload, queue)


def test_without_redis_py_the_extra_is_named():
    """Who has no redis-py is told what to install."""
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "import django; django.setup()\n"
        "from django_tasks.brokers import open_broker\n"
        "try:\n    open_broker('redis://localhost/0')\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("ImproperlyConfigured"), done.stderr
    assert "pip install 'django-tasks-engine[redis]'" in done.stdout
