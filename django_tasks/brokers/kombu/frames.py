"""AMQP's frames, whole messages at a time: what a server pushes cut out of a buffer, and what is published written in one piece."""

from collections.abc import Mapping
from struct import Struct
from typing import Any, Final, NamedTuple

from amqp.exceptions import UnexpectedFrame

from django_tasks.brokers.kombu.codec import read_properties, write_properties

END: Final = 0xCE
_METHOD, _HEADER, _BODY = 1, 2, 3
_BASIC, _PUBLISH, _DELIVER, _ACK, _REJECT = 60, 40, 60, 80, 90
#: type, channel, size; then class and method as one number.
_METHOD_FRAME: Final = Struct(">BHII")
#: type, channel, size, class, weight, size of the body; properties follow.
_HEADER_FRAME: Final = Struct(">BHIHHQ")
_FRAME: Final = Struct(">BHI")
#: delivery tag, redelivered, size of the exchange's name.
_DELIVERY: Final = Struct(">QBB")
#: type, channel, size, class, method, delivery tag, flag, end: basic.ack and basic.reject have one shape.
_SETTLEMENT: Final = Struct(">BHIHHQBB")
_CONFIRM: Final = Struct(">HHQB")
_IS_DELIVERY: Final = _BASIC << 16 | _DELIVER
#: How many routes are remembered: exchanges with their routing keys.
_MOST_ROUTES: Final = 1000


class Arrival(NamedTuple):
    """A message as it was pushed. ``properties`` have py-amqp's names."""

    consumer: str
    number: int
    again: bool
    exchange: str
    routing_key: str
    properties: dict[str, Any]
    body: bytes


class Cutter:
    """Cuts what was pushed to one channel out of a buffer."""

    def __init__(self, channel_id: int) -> None:
        self._channel_id = channel_id
        self._routes: dict[bytes, tuple[str, str]] = {}

    def cut(self, buffer: bytes, at: int) -> tuple[list[Arrival], int]:
        """Return the messages that lie whole in the buffer from ``at`` on, and where the first other thing begins.

        That may be a message that is not all there yet, or has a body of several frames; or a frame of another kind. Raises
        UnexpectedFrame where frames are broken.
        """
        found: list[Arrival] = []
        size = len(buffer)
        channel_id = self._channel_id
        # The smallest message: three frames' frames, a delivery's fields, a header.
        while size - at > _SMALLEST:
            kind, channel, length, method = _METHOD_FRAME.unpack_from(buffer, at)
            if method != _IS_DELIVERY or kind != _METHOD or channel != channel_id:
                break
            header = at + 8 + length
            if size - header < _HEADER_FRAME.size:
                break
            kind, _, length, _, _, body_size = _HEADER_FRAME.unpack_from(buffer, header)
            body = header + 8 + length
            start = body + 7
            end = start + body_size
            if kind != _HEADER or not body_size or end >= size:
                break
            kind, _, length = _FRAME.unpack_from(buffer, body)
            if kind != _BODY or length != body_size:
                break
            if not (buffer[header - 1] == buffer[body - 1] == buffer[end] == END):
                raise UnexpectedFrame("a frame has no end")
            found.append(self._arrival(buffer, at + 11, header, read_properties(buffer, header + 19), buffer[start:end]))
            at = end + 1
        return found, at

    def _arrival(self, buffer: bytes, at: int, end: int, properties: dict[str, Any], body: bytes) -> Arrival:
        start = at + 1
        at = start + buffer[at]
        consumer = buffer[start:at].decode()
        number, again, length = _DELIVERY.unpack_from(buffer, at)
        raw = buffer[at + 9 : end]
        route = self._routes.get(raw)
        if route is None:
            if len(self._routes) >= _MOST_ROUTES:
                self._routes.clear()
            key = 2 + length
            route = self._routes[raw] = (_text(raw[1 : 1 + length]), _text(raw[key : key + raw[key - 1]]))
        return Arrival(consumer, number, again != 0, *route, properties, body)


_SMALLEST: Final = 11 + 1 + _DELIVERY.size + 2 + _HEADER_FRAME.size + 8


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


class Writer:
    """Writes messages to be published on one channel."""

    def __init__(self, channel_id: int, frame_max: int) -> None:
        self._channel_id = channel_id
        self._largest = frame_max - 8
        self._routes: dict[tuple[str, str, bool], bytes] = {}

    def message(self, exchange: str, routing_key: str, properties: Mapping[str, Any], body: bytes, *, mandatory: bool) -> bytes:
        """Return all frames of a message. Raises ValueError where a name is too long for AMQP."""
        route = (exchange, routing_key, mandatory)
        method = self._routes.get(route)
        if method is None:
            if len(self._routes) >= _MOST_ROUTES:
                self._routes.clear()
            method = self._routes[route] = self._publish(*route)
        written = write_properties(properties)
        channel_id, size = self._channel_id, len(body)
        header = _HEADER_FRAME.pack(_HEADER, channel_id, 12 + len(written), _BASIC, 0, size)
        if 0 < size <= self._largest:
            return b"".join((method, header, written, _END, _FRAME.pack(_BODY, channel_id, size), body, _END))
        parts = [method, header, written, _END]
        for start in range(0, size, self._largest):
            piece = body[start : start + self._largest]
            parts += (_FRAME.pack(_BODY, channel_id, len(piece)), piece, _END)
        return b"".join(parts)

    def _publish(self, exchange: str, routing_key: str, mandatory: bool) -> bytes:
        names = b"".join(bytes((len(raw),)) + raw for raw in (_name(exchange), _name(routing_key)))
        payload = names + bytes((mandatory,))
        return _METHOD_FRAME.pack(_METHOD, self._channel_id, 6 + len(payload), _BASIC << 16 | _PUBLISH) + b"\0\0" + payload + _END


_END: Final = bytes((END,))


def _name(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogatepass")
    if len(raw) > 255:
        raise ValueError(f"{text[:40]!r}... is too long: AMQP allows exchanges and routing keys of 255 bytes")
    return raw


def ack(channel_id: int, tag: int, *, multiple: bool) -> bytes:
    """Return the frame of basic.ack; with ``multiple``, of every delivery up to this tag."""
    return _SETTLEMENT.pack(_METHOD, channel_id, 13, _BASIC, _ACK, tag, multiple, END)


def reject(channel_id: int, tag: int, *, requeue: bool) -> bytes:
    """Return the frame of basic.reject."""
    return _SETTLEMENT.pack(_METHOD, channel_id, 13, _BASIC, _REJECT, tag, requeue, END)


def confirmed(frame: tuple[int, int, bytes], channel_id: int) -> int:
    """Return the number up to which a server's basic.ack on this channel confirms; 0 for any other frame."""
    kind, channel, payload = frame
    if kind != _METHOD or channel != channel_id or len(payload) != _CONFIRM.size:
        return 0
    class_id, method, number, _ = _CONFIRM.unpack(payload)
    return number if (class_id, method) == (_BASIC, _ACK) else 0
