"""Values to bytes and back."""

import subprocess
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
from django.utils.functional import lazystr
from kombu.utils import json as kombu_json

from django_tasks import clock
from django_tasks.exceptions import ContentDisallowed, DecodeError, EncodeError, ImproperlyConfigured, SoftTimeLimitExceeded
from django_tasks.serializers import accepted_types, available, available_compressions, dumps, dumps_json, loads, loads_json, serializer_of
from django_tasks.timelimits import soft_limit

PLAIN = {"text": "Grüße \u2028 \x00", "number": 1.5, "none": None, "list": [1, [2, {"a": True}]], "empty": {}}
TYPED = [
    datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
    datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=2))),
    datetime(2026, 1, 2),  # noqa: DTZ001  naive ones stay so
    date(2026, 1, 2),
    time(3, 4, 5),
    Decimal("1.20"),
    UUID("12345678-1234-5678-1234-567812345678"),
    b"text",
    b"\xff\x00",
]


@pytest.mark.parametrize("value", [PLAIN, [], "x", 0, None, True, 10**30, float("inf")])
def test_plain_data_comes_back(value):
    """What JSON has words for is the same after the way there and back."""
    assert loads_json(dumps_json(value)) == value
    assert loads_json(dumps_json(value).encode()) == value


@pytest.mark.parametrize("value", TYPED, ids=repr)
def test_typed_values_come_back_and_are_kombus(value):
    """Dates, decimals, UUIDs and bytes keep their type, and kombu writes and reads the same."""
    ours, theirs = dumps_json([value]), kombu_json.dumps([value])
    assert kombu_json.loads(ours) == [value]
    assert loads_json(theirs) == [value]
    (back,) = loads_json(ours)
    assert (back, type(back)) == (value, type(value))
    assert kombu_json.loads(ours) == kombu_json.loads(theirs)


def test_json_is_compact_ascii():
    """No blank is spent, and any byte-clean transport can carry it."""
    assert dumps_json({"a": [1, "ü"]}) == '{"a":[1,"\\u00fc"]}'


def test_tuples_become_lists_and_lazy_text_becomes_text():
    """As with kombu: a tuple is a list, a lazy translation is its text."""
    assert dumps_json((1, (2,))) == "[1,[2]]"
    assert dumps_json(lazystr("hello")) == '"hello"'


def test_an_object_may_say_how_it_is_written():
    """Kombu's __json__ hook works, also on what looks like a model."""

    class Point:
        _meta = pk = 1

        def __json__(self):
            return {"x": 1}

    assert loads_json(dumps_json(Point())) == {"x": 1}


@pytest.mark.parametrize("value", [{1, 2}, frozenset(), object(), len, 1j])
def test_what_has_no_form_is_named(value):
    """The error shows the value and its type, and what to do."""
    with pytest.raises(EncodeError) as caught:
        dumps_json({"deep": [value]})
    assert type(value).__name__ in str(caught.value)
    assert repr(value) in str(caught.value)
    assert "plain data" in str(caught.value)


def test_a_model_instance_is_refused_with_advice():
    """What looks like a model instance is to be passed by its primary key."""

    class Order:
        _meta = object()
        pk = 7

    with pytest.raises(EncodeError, match=r"Order with primary key 7.*pass its primary key"):
        dumps_json([Order()])


def test_other_failures_of_json_are_encode_errors():
    """Keys that are no text, references to itself and bottomless nesting are told, whatever their reprs do."""
    loop = []
    loop.append(loop)
    deep = []
    for _ in range(100_000):
        deep = [deep]

    class Rude:
        def __repr__(self):
            raise RuntimeError

    for value, word in [({(1, 2): 3}, "keys"), (loop, "ircular"), (Rude(), "Rude"), (deep, "recursion")]:
        with pytest.raises(EncodeError, match=word):
            dumps_json(value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        b"\xff",
        "[" * 100_000,
        '{"__type__": "nothing", "__value__": 1}',
        '{"__type__": "datetime", "__value__": 1}',
        '{"__type__": "decimal", "__value__": "x"}',
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_no_json_is_a_decode_error(text):
    """The error shows how the text begins, and not all of it."""
    with pytest.raises(DecodeError, match="no valid JSON") as caught:
        loads_json(text)
    assert len(str(caught.value)) < 1000


def test_a_marker_in_plain_text_is_text():
    """A string that contains the marker is not taken for a typed value."""
    value = ["__type__", {"__type__": 1, "other": 2}, '"__type__"']
    assert loads_json(dumps_json(value)) == value


@pytest.mark.parametrize("serializer", ["json", "pickle", "yaml", "msgpack"])
@pytest.mark.parametrize("compression", [None, "gzip", "bzip2"])
def test_every_serializer_and_compression_comes_back(serializer, compression):
    """Payloads are bytes, and say how they are to be read."""
    payload = dumps([1, {"a": "ü"}], serializer, compression)
    assert isinstance(payload.body, bytes)
    assert (payload.compression is None) == (compression is None)
    for accept in ([serializer], [payload.content_type], (serializer,), {serializer}):
        back = loads(payload.body, payload.content_type, payload.content_encoding, accept=accept, compression=payload.compression)
        assert back == [1, {"a": "ü"}]


def test_pickle_is_refused_unless_accepted():
    """A pickle is not touched, and the error says which setting would allow it and at what price."""
    payload = dumps([1], "pickle")
    for accept in (["json"], ["json", "yaml"], [], None):
        with pytest.raises(ContentDisallowed, match=r"ACCEPT_CONTENT.*[Pp]ickle"):
            loads(payload.body, payload.content_type, payload.content_encoding, accept=accept)


def test_a_refused_body_is_not_read():
    """The content type decides before decompression and decoding."""
    with pytest.raises(ContentDisallowed, match="application/x-yaml"):
        loads(b"\x00", "application/x-yaml", "utf-8", accept=["json"], compression="no-such")


def test_json_is_refused_where_it_is_not_accepted():
    """The accept list counts for JSON, too; without one JSON is accepted."""
    with pytest.raises(ContentDisallowed):
        loads(b"1", "application/json", "utf-8", accept=["yaml"])
    assert loads(b"1", "application/json", "utf-8") == 1


def test_unknown_names_are_answered_with_the_nearest():
    """Serializers, compressions and accept lists say what there is."""
    with pytest.raises(EncodeError, match=r"'jsn'.*did you mean 'json'"):
        dumps(1, "jsn")
    with pytest.raises(EncodeError, match=r"'gzp'.*did you mean 'gzip'"):
        dumps(1, "json", "gzp")
    with pytest.raises(ImproperlyConfigured, match=r"'jsn'.*did you mean 'json'"):
        accepted_types(["jsn"])
    with pytest.raises(DecodeError, match="no-such"):
        loads(b"1", "application/json", "utf-8", accept=["json"], compression="no-such")


@pytest.mark.parametrize(
    ("content_type", "body"), [("application/x-yaml", b"a: [b"), ("application/x-msgpack", b"\xc1"), ("text/plain", b"\xff")]
)
def test_bodies_of_other_types_that_cant_be_read(content_type, body):
    """A broken body of any accepted type is a DecodeError that names the type."""
    with pytest.raises(DecodeError, match=content_type):
        loads(body, content_type, "utf-8", accept=[content_type])


class SlowToWrite:
    """Takes long to be pickled."""

    def __reduce__(self):
        spin()


def spin():
    """Run into the limit."""
    until = clock.monotonic() + 10
    while clock.monotonic() < until:
        pass


class SlowToRead:
    """Takes long to be read."""

    def __reduce__(self):
        return spin, ()


def test_a_soft_time_limit_is_no_fault_of_the_value():
    """One that ends while kombu encodes or decodes reaches the task, and is neither EncodeError nor DecodeError."""
    with pytest.raises(SoftTimeLimitExceeded), soft_limit(0.05):
        dumps(SlowToWrite(), "pickle")
    payload = dumps(SlowToRead(), "pickle")
    with pytest.raises(SoftTimeLimitExceeded), soft_limit(0.05):
        loads(payload.body, payload.content_type, payload.content_encoding, accept=["pickle"])


def test_a_body_that_cant_be_decompressed():
    """Garbage instead of gzip is a DecodeError."""
    with pytest.raises(DecodeError, match="decompressed"):
        loads(b"garbage", "application/json", "utf-8", accept=["json"], compression="application/x-gzip")


def test_what_is_there_is_listed():
    """The lists name what can be used, and a content type leads to its serializer."""
    assert {"json", "pickle", "yaml", "msgpack"} <= set(available())
    assert {"gzip", "bzip2"} <= set(available_compressions())
    assert serializer_of("application/x-yaml") == "yaml"
    assert serializer_of("application/nothing") is None


def test_plain_json_needs_no_kombu():
    """A process that only sends plain data does not pay for importing kombu."""
    code = (
        "import sys; from django_tasks.serializers import dumps, loads; p = dumps([1]);"
        "assert loads(p.body, p.content_type, accept=['json']) == [1]; assert 'kombu' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
