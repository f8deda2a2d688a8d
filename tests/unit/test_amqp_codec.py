"""AMQP's tables, properties and frames: the same values and bytes as py-amqp's, in both directions."""

import struct
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from amqp.basic_message import Message
from amqp.exceptions import FrameSyntaxError, UnexpectedFrame
from amqp.serialization import decode_properties_basic, dumps, loads
from hypothesis import example, given
from hypothesis import strategies as st

from django_tasks.brokers.kombu import frames
from django_tasks.brokers.kombu.codec import read_properties, read_table, write_properties, write_table
from django_tasks.brokers.kombu.wire import _TCP
from django_tasks.exceptions import EncodeError

NAMES = st.text(max_size=40)
SIMPLE = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.text(st.characters(min_codepoint=0xD700, max_codepoint=0xE100))
    | st.binary(max_size=50)
    | st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1))  # noqa: DTZ001  py-amqp knows naive ones
    | st.decimals(min_value=-10_000, max_value=10_000, places=3)
)
VALUES = st.recursive(SIMPLE, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=12)
TABLES = st.dictionaries(NAMES, VALUES, max_size=12)
SHORT = st.text(max_size=60)
PROPERTIES = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ("content_type", "content_encoding", "correlation_id", "reply_to", "expiration", "message_id", "type", "app_id", "cluster_id"),
            SHORT,
        ),
        "user_id": SHORT,
        "delivery_mode": st.integers(0, 255),
        "priority": st.integers(0, 255),
        "timestamp": st.integers(0, 2**63),
        "application_headers": TABLES,
    },
)
#: A value of every type that RabbitMQ knows, and some that only others send.
EVERY_TYPE = {
    "t": b"\x01", "b": b"\xff", "B": b"\xff", "s": b"\xff\xfe", "U": b"\xff\xfe", "u": b"\xff\xfe", "I": b"\xff\xff\xff\xfe",
    "i": b"\xff\xff\xff\xfe", "l": b"\xff" * 8, "L": b"\xff" * 8, "f": struct.pack(">f", 1.5), "d": struct.pack(">d", 1.5),
    "D": b"\x02\x00\x00\x00\x7b", "S": b"\x00\x00\x00\x02ab", "x": b"\x00\x00\x00\x02\xff\xfe", "T": b"\x00\x00\x00\x00\x65\x00\x00\x00",
    "V": b"", "A": b"\x00\x00\x00\x03t\x01V", "F": b"\x00\x00\x00\x03\x01kV",
}  # fmt: skip


def as_read(raw: bytes) -> Any:
    """Decode a table by py-amqp."""
    (table,), end = loads("F", raw, 0)
    assert end == len(raw)
    return table


@given(TABLES)
@example({"not utf-8": b"\xff\xfe", "then": 1})
@example({"edges": [2**31 - 1, -(2**31) + 1, 2**31, -(2**31), 2**63 - 1, -(2**63)]})
@example({"nothing": {}, "none": [], "deep": {"er": [{"and": [[[None]]]}]}})
@example({"half of a pair": "\ud800", "\udfff": True})
def test_tables_are_py_amqps_to_the_byte(table: dict[str, Any]) -> None:
    """What is written here is what py-amqp writes, and what is read is what it reads."""
    raw = dumps("F", [table])
    assert write_table(table) == raw
    before = b"\x07" * 3
    read, end = read_table(before + raw + b"\x07", 3)
    assert (read, end) == (as_read(raw), 3 + len(raw))
    assert [type(value) for value in read.values()] == [type(value) for value in as_read(raw).values()]


@pytest.mark.parametrize("letter", EVERY_TYPE)
def test_every_type_of_value(letter: str) -> None:
    """As the value of a header, in a list and in a table of its own, beside others that are understood."""
    value = letter.encode() + EVERY_TYPE[letter]
    inner = b"\x01k" + value
    entries = (
        b"\x05first" + b"t\x01" + b"\x05plain" + value + b"\x04list" + b"A" + struct.pack(">I", len(value)) + value,
        b"\x05table" + b"F" + struct.pack(">I", len(inner)) + inner + b"\x04last" + b"I\x00\x00\x00\x05",
    )
    raw = struct.pack(">I", sum(map(len, entries))) + b"".join(entries)
    assert read_table(raw, 0) == (as_read(raw), len(raw))
    assert as_read(raw)["last"] == 5


def test_a_type_that_nobody_knows_is_py_amqps_error() -> None:
    """So is a value that AMQP has no type for."""
    with pytest.raises(FrameSyntaxError):
        read_table(b"\x00\x00\x00\x03\x01k?", 0)
    with pytest.raises(FrameSyntaxError):
        write_table({"key": object()})


def test_a_number_that_is_too_large() -> None:
    """It must be an error that shows it, and none of the connection's, after which publishing is tried again."""
    with pytest.raises(EncodeError, match="number in the headers"):
        write_table({"a": 10**30})


def test_subclasses_travel_as_what_they_are() -> None:
    """A kind of str, int or dict is written as py-amqp writes it."""

    class Text(str):
        __slots__ = ()

    class Number(int):
        pass

    class Table(dict[str, Any]):
        pass

    table = {"text": Text("a"), "number": Number(7), "table": Table(a=1), "amount": Decimal("1.25")}
    assert write_table(table) == dumps("F", [table])


@given(PROPERTIES)
def test_properties_are_py_amqps_to_the_byte(properties: dict[str, Any]) -> None:
    """All fourteen, each there or not."""
    raw = Message("", **properties)._serialize_properties()
    assert write_properties(properties) == raw
    assert read_properties(b"\x07" + raw, 1) == decode_properties_basic(raw, 0)[0]


def test_a_property_that_is_too_long_is_named() -> None:
    """AMQP's short strings have 255 bytes at most."""
    with pytest.raises(ValueError, match="of 255 bytes"):
        write_properties({"correlation_id": "x" * 256})
    with pytest.raises(ValueError, match="of 255 bytes"):
        frames.Writer(1, 4096).message("", "q" * 256, {}, b"", mandatory=True)


# ---- frames


def frame(kind: int, payload: bytes, channel: int = 1) -> bytes:
    """Wrap a payload."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def pushed(body: bytes, *, number: int = 1, again: bool = False, key: str = "default", pieces: int = 1, channel: int = 1) -> bytes:
    """Return a message as RabbitMQ pushes it, written by py-amqp's encoder."""
    method = struct.pack(">HH", 60, 60) + dumps("sLbss", ("consumer", number, again, "exchange", key))
    header = struct.pack(">HHQ", 60, 0, len(body)) + Message("", content_type="text/plain", priority=3)._serialize_properties()
    size = max(1, len(body) // pieces)
    bodies = [frame(3, body[start : start + size], channel) for start in range(0, len(body), size)]
    return frame(1, method, channel) + frame(2, header, channel) + b"".join(bodies)


def arrival(body: bytes, number: int = 1, *, again: bool = False, key: str = "default") -> frames.Arrival:
    """Return what ``pushed`` is to be read as."""
    return frames.Arrival("consumer", number, again, "exchange", key, {"content_type": "text/plain", "priority": 3}, body)


def test_messages_are_cut_out_of_a_buffer() -> None:
    """All of one channel in a row, up to where they end in the middle, wherever that is."""
    messages = [pushed(b"one"), pushed(b"two \xce", number=2**40, again=True), pushed(b"three", number=3, key="other")]
    whole = b"before" + b"".join(messages)
    expected = [arrival(b"one"), arrival(b"two \xce", 2**40, again=True), arrival(b"three", 3, key="other")]
    cutter = frames.Cutter(1)
    assert cutter.cut(whole, 6) == (expected, len(whole))
    for size in range(6, len(whole)):
        found, at = cutter.cut(whole[:size], 6)
        assert found == expected[: len(found)]
        assert at == 6 + sum(len(one) for one in messages[: len(found)])
        assert size - at < len(messages[min(2, len(found))])


@pytest.mark.parametrize(
    "other",
    [
        frame(8, b"", 0),
        frame(1, struct.pack(">HHQB", 60, 80, 1, 0)) + b"\0" * 99,
        pushed(b"for another channel", channel=2),
        pushed(b"", number=9),
        pushed(b"in pieces", pieces=2),
        frame(2, b"\0" * 20) + b"\0" * 99,
    ],
    ids=["heartbeat", "ack", "other channel", "no body", "pieces", "header"],
)
def test_what_is_no_whole_message_stops_the_knife(other: bytes) -> None:
    """It is left where it is, for py-amqp."""
    first = pushed(b"one")
    assert frames.Cutter(1).cut(first + other + pushed(b"two"), 0) == ([arrival(b"one")], len(first))


def test_a_frame_without_end_is_an_error() -> None:
    """Whatever it is, it is not AMQP."""
    broken = bytearray(pushed(b"one"))
    broken[-1] = 0
    with pytest.raises(UnexpectedFrame):
        frames.Cutter(1).cut(bytes(broken) + b"\0", 0)


def test_routes_are_forgotten_before_they_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays and topics make any number of routing keys."""
    monkeypatch.setattr(frames, "_MOST_ROUTES", 3)
    cutter, writer = frames.Cutter(1), frames.Writer(1, 4096)
    for number in range(10):
        ((one,), _) = cutter.cut(pushed(b"x", key=f"key-{number}"), 0)
        assert one.routing_key == f"key-{number}"
        assert f"key-{number}".encode() in writer.message("", f"key-{number}", {}, b"x", mandatory=True)
    assert len(cutter._routes) <= 3
    assert len(writer._routes) <= 3


@given(st.binary(max_size=60), st.booleans(), SHORT, SHORT, PROPERTIES)
def test_a_published_message_is_what_py_amqp_would_send(
    body: bytes, mandatory: bool, exchange: str, key: str, properties: dict[str, Any]
) -> None:
    """Method, header and body; a large body in frames that the server allows."""
    raw = frames.Writer(5, 28).message(exchange, key, properties, body, mandatory=mandatory)
    method = struct.pack(">HH", 60, 40) + dumps("Bssbb", (0, exchange, key, mandatory, False))
    header = struct.pack(">HHQ", 60, 0, len(body)) + Message("", **properties)._serialize_properties()
    expected = [frame(1, method, 5), frame(2, header, 5), *(frame(3, body[start : start + 20], 5) for start in range(0, len(body), 20))]
    assert raw == b"".join(expected)


def test_only_an_ack_of_the_channel_confirms() -> None:
    """Anything else is for py-amqp to understand."""
    payload = frames.ack(1, 7, multiple=True)[7:-1]
    assert frames.confirmed((1, 1, payload), 1) == 7
    assert frames.confirmed((1, 2, payload), 1) == 0
    assert frames.confirmed((2, 1, payload), 1) == 0
    assert frames.confirmed((1, 1, frames.reject(1, 7, requeue=True)[7:-1]), 1) == 0
    assert frames.confirmed((1, 1, payload[:-1]), 1) == 0


class _Socket:
    """Gives what it was given, a few bytes at a time."""

    def __init__(self, data: bytes, size: int) -> None:
        self._pieces = [data[start : start + size] for start in range(0, len(data), size)]

    def recv(self, _: int) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""

    def close(self) -> None:
        """Nothing to close."""


@pytest.mark.parametrize("size", [1, 7, 50, 1000])
def test_the_reader_puts_frames_together(size: int) -> None:
    """However the network cuts them; the end of a connection is an error."""
    payloads = [(8, 0, b""), (1, 1, b"abc"), (3, 2, b"\xce" * 70)]
    transport = _TCP.__new__(_TCP)
    transport.sock = _Socket(b"".join(frame(kind, payload, channel) for kind, channel, payload in payloads), size)  # type: ignore[assignment]
    assert [transport.read_frame() for _ in payloads] == payloads
    assert not transport.has_frame()
    with pytest.raises(OSError, match="closed the connection"):
        transport.read_frame()
