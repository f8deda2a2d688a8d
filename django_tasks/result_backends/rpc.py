"""``rpc://``: results as messages, through the broker, to a queue of the process that sent the call. Celery's format.

Nothing is stored: a result can be read by the process that called the task, and by no other. What it has received it keeps
in memory until it is forgotten, or until ten thousand others have come.
"""

import json
import os
import threading
from collections import OrderedDict
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any, Final, NoReturn

from django_tasks import clock, exceptions, kombuaccess, states
from django_tasks.conf import settings
from django_tasks.exceptions import ImproperlyConfigured, TaskError
from django_tasks.kombuaccess import Line, kombu
from django_tasks.messages import new_id
from django_tasks.result_backends import encoding
from django_tasks.result_backends.backend import NewChord, ReadyChord, ResultBackend, ResultMeta
from django_tasks.result_backends.documents import from_document, to_document
from django_tasks.result_backends.encoding import decode, encode_value
from django_tasks.result_backends.merging import folded, merged
from django_tasks.serializers import JSON_TYPE, Payload, dumps, dumps_json, loads, serializer_of
from django_tasks.urls import URL, failover, mask, parse

#: Most results that a process keeps which nobody has read or forgotten.
KEPT: Final = 10_000
#: Seconds after which the queue is declared again, should the broker have dropped it.
_DECLARED_FOR: Final = 60.0
#: Seconds that one look at the connection lasts while somebody waits.
_LOOK: Final = 1.0
#: Seconds within which what a polled transport has for us is here.
_GLANCE: Final = 0.01


class RpcResultBackend(ResultBackend):
    """Results as messages over BROKER_URL, which must be a message broker.

    ``reply_to`` names this process's queue; whoever builds messages puts it into them, and workers send the results there.
    """

    def __init__(self, url: URL) -> None:
        """Open ``rpc://``; nothing connects yet. Raises ImproperlyConfigured where BROKER_URL is no message broker."""
        self._brokers = failover(settings.BROKER_URL)
        if kombuaccess.is_local(self._brokers):
            raise ImproperlyConfigured(
                f"RESULT_BACKEND rpc:// sends results as messages, and BROKER_URL {mask(self._brokers)} is no message broker: use"
                " RESULT_BACKEND = 'db://default', or a broker such as amqp:// or redis://"
            )
        # Made now: of two threads that come first at the same moment, each would make a queue of its own.
        self._ends = os.getpid(), _Outbox(self._brokers), _Inbox(self._brokers)

    @property
    def _both(self) -> "tuple[int, _Outbox, _Inbox]":
        # In a fork: the parent's connections are in use there, and its queue is not ours.
        if self._ends[0] != os.getpid():
            self._ends = os.getpid(), _Outbox(self._brokers), _Inbox(self._brokers)
        return self._ends

    @property
    def reply_to(self) -> str:
        """The name of this process's queue, which is there now. Raises OperationalError when the broker can't be reached."""
        return self._both[2].open()

    def store(self, metas: Sequence[ResultMeta]) -> None:
        """Send each to the queue that its caller named. What has no caller stays in this process, if that reads results."""
        _, outbox, inbox = self._both
        batch = folded(metas)
        inbox.take([meta for meta in batch if not meta.reply_to])
        if away := [meta for meta in batch if meta.reply_to]:
            outbox.send(away)

    def fetch(self, task_ids: Collection[str]) -> dict[str, ResultMeta]:
        """Read what has arrived of these tasks."""
        inbox = self._both[2]
        inbox.glance()
        return inbox.of(task_ids)

    def wait(self, task_ids: Collection[str], timeout: float | None) -> Iterator[ResultMeta]:
        """Yield each task's meta once it is ready. One thread listens to the connection, for all that wait."""
        inbox = self._both[2]
        left = dict.fromkeys(task_ids)
        end = None if timeout is None else clock.monotonic() + timeout
        inbox.glance()
        while left:
            for meta in inbox.of(left).values():
                if meta.status in states.READY_STATES:
                    left.pop(meta.task_id, None)
                    yield meta
            if not left:
                return
            remaining = _LOOK if end is None else end - clock.monotonic()
            if remaining <= 0:
                raise exceptions.TimeoutError(f"{len(left)} of {len(task_ids)} results were not there within {timeout:g} seconds")
            inbox.listen(min(remaining, _LOOK))

    def forget(self, task_ids: Collection[str]) -> None:
        """Let go of what has arrived of these tasks."""
        inbox = self._both[2]
        inbox.glance()
        inbox.forget(task_ids)

    def expire(self, before: datetime, *, limit: int) -> int:
        """Delete nothing: nothing is stored."""
        return 0

    def close(self) -> None:
        """Delete this process's queue, and close the connections. What has arrived stays; results on their way are lost."""
        if self._ends[0] == os.getpid():
            self._ends[1].close()
            self._ends[2].close()

    # ---- what needs a store

    def store_group(self, group_id: str, members: Sequence[Any]) -> None:
        """Raise NotImplementedError."""
        self._refuse("keep groups")

    def fetch_group(self, group_id: str) -> Sequence[Any] | None:
        """Raise NotImplementedError."""
        self._refuse("keep groups")

    def forget_group(self, group_id: str) -> None:
        """Raise NotImplementedError."""
        self._refuse("keep groups")

    def check_chords(self) -> None:
        """Refuse."""
        self._refuse("count the parts of chords")

    def open_chords(self, chords: Sequence[NewChord]) -> None:
        """Raise NotImplementedError."""
        self._refuse("count the parts of chords")

    def grow_chord(self, group_id: str, by: int, parts: Sequence[str] = ()) -> None:
        """Raise NotImplementedError."""
        self._refuse("count the parts of chords")

    def count_chord_parts(self, metas: Sequence[ResultMeta]) -> list[ReadyChord]:
        """Return none: no chord has been opened here."""
        return []

    def _refuse(self, what: str) -> NoReturn:
        raise NotImplementedError(f"RESULT_BACKEND rpc:// stores nothing, so it can't {what}; use db://, redis:// or another store")


class _Confirming(Line):
    """A connection to the broker on which RabbitMQ says so when it has taken a message."""

    def __init__(self, brokers: Sequence[str]) -> None:
        options = {"confirm_publish": True} if parse(brokers[0]).scheme in {"amqp", "amqps", "pyamqp"} else {}
        super().__init__(lambda: kombuaccess.connection(brokers, options=options), mask(brokers))


class _Outbox(_Confirming):
    """Where a worker sends results from."""

    _producer: Any

    def connected(self) -> None:
        self._producer = kombu.Producer(self.connection.default_channel)

    def send(self, metas: Sequence[ResultMeta]) -> None:
        """Send results to their callers' queues, by way of the default exchange. Those of processes that are gone get lost."""
        letters = [(meta, _payload(meta)) for meta in metas]

        def send() -> None:
            for meta, payload in letters:
                self._send(meta, payload)

        self.using(f"Sending {len(metas)} result(s)", send)

    def _send(self, meta: ResultMeta, payload: Payload) -> None:
        self._producer.publish(
            payload.body,
            exchange="",
            routing_key=meta.reply_to,
            correlation_id=meta.task_id,
            content_type=payload.content_type,
            content_encoding=payload.content_encoding,
            delivery_mode=2 if settings.RESULT_PERSISTENT else 1,
        )


class _Inbox(_Confirming):
    """The queue of this process, and what has come out of it."""

    def __init__(self, brokers: Sequence[str]) -> None:
        super().__init__(brokers)
        self._name = new_id()
        self._declared = -_DECLARED_FOR
        self._opened = False
        self._opening = threading.Lock()
        self._consumer: Any = None
        self._changed = threading.Condition()
        self._kept: OrderedDict[str, ResultMeta] = OrderedDict()

    # ---- the queue

    def open(self) -> str:
        """Make sure that the queue is there; return its name."""
        # Once it has been opened nobody waits here for a listener, who takes the lock again as soon as it is free: while one
        # listens, the queue is in use, and stays.
        with self._opening:
            if clock.monotonic() >= self._declared + _DECLARED_FOR and self.lock.acquire(blocking=not self._opened):
                try:
                    self.using("Declaring the queue for results", self._declare)
                finally:
                    self.lock.release()
                self._declared, self._opened = clock.monotonic(), True
        return self._name

    def _declare(self) -> None:
        self._queue.declare()

    @property
    def _queue(self) -> Any:
        # Not auto_delete, which would drop it, with what is in it, as soon as nobody listens for a moment. It goes when this
        # process says so, or when nobody has asked for it for as long as results are kept.
        kept = settings.RESULT_EXPIRES or None
        return kombu.Queue(self._name, durable=True, auto_delete=False, expires=kept)(self.connection.default_channel)

    def connected(self) -> None:
        self._consumer = None
        if self._opened:
            self._queue.declare()

    def glance(self) -> None:
        """Take what is there now. A process that has never sent anything has nothing to look at."""
        if not self._opened or not self.lock.acquire(timeout=0 if self._consumer else _LOOK):
            return  # another thread is listening, and takes it
        try:
            self.using("Reading results", self._glance)
        finally:
            self.lock.release()

    def _glance(self) -> None:
        queue = self._queue
        # With a listening consumer RabbitMQ sends the messages before its answer to this question, that there are none.
        while (message := queue.get(no_ack=True)) is not None:
            self._receive(message)
        if self._consumer is not None and self.connection.transport.driver_type != "amqp":
            with suppress(TimeoutError):
                while True:
                    self.connection.drain_events(timeout=_GLANCE)

    def listen(self, seconds: float) -> None:
        """Wait until something comes, for so long at most."""
        if not self._opened:
            self.open()
        if self.lock.acquire(blocking=False):
            try:
                self.using("Waiting for results", lambda: self._listen(seconds))
            finally:
                self.lock.release()
                with self._changed:
                    # One of the others listens now.
                    self._changed.notify_all()
        else:
            with self._changed:
                self._changed.wait(min(seconds, 0.1))

    def _listen(self, seconds: float) -> None:
        if self._consumer is None:
            queue = self._queue
            self._consumer = kombu.Consumer(queue.channel, [queue], no_ack=True, on_message=self._receive, auto_declare=False)
            self._consumer.consume()
        with suppress(TimeoutError):
            self.connection.drain_events(timeout=seconds)

    def _receive(self, message: Any) -> None:
        try:
            self.take([_meta(message)])
        except TaskError as error:
            # What can't be read, or must not be, is this task's failure and not that of whoever waits for others.
            task_id = message.properties.get("correlation_id") or ""
            text, content_type, content_encoding = encode_value(error)
            unreadable = ResultMeta(task_id=task_id, status=states.FAILURE, result=text, date_done=clock.now())
            self.take([replace(unreadable, content_type=content_type, content_encoding=content_encoding)])

    # ---- what has come

    def take(self, metas: Sequence[ResultMeta]) -> None:
        """Keep these, by the rules of ``merging``, if this process reads results."""
        if not self._opened or not metas:
            return
        with self._changed:
            for meta in metas:
                self._kept[meta.task_id] = merged(self._kept.get(meta.task_id), meta)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
            self._changed.notify_all()

    def of(self, task_ids: Collection[str]) -> dict[str, ResultMeta]:
        """Return what is here of these tasks."""
        with self._changed:
            return {task_id: self._kept[task_id] for task_id in task_ids if task_id in self._kept}

    def forget(self, task_ids: Collection[str]) -> None:
        """Let go of these."""
        with self._changed:
            for task_id in task_ids:
                self._kept.pop(task_id, None)

    def close(self) -> None:
        """Delete the queue, and close the connection."""
        if self._opened and self.connection is not None:
            with self.lock, suppress(Exception):
                self._glance()
                self._queue.delete()
        self._declared = -_DECLARED_FOR
        self.drop()


def _payload(meta: ResultMeta) -> Payload:
    if meta.content_type == JSON_TYPE:
        return Payload(to_document(meta).encode(), JSON_TYPE, "utf-8")
    # To Celery the whole document is of one serializer.
    serializer = serializer_of(meta.content_type) or meta.content_type
    document = json.loads(to_document(meta))
    del document["content_type"], document["content_encoding"]
    document["result"] = decode(replace(meta, status=states.SUCCESS), accept=[meta.content_type])
    return dumps(document, serializer)


def _meta(message: Any) -> ResultMeta:
    if message.content_type == JSON_TYPE:
        return from_document(message.body)
    document = loads(message.body, message.content_type, message.content_encoding, accept=encoding.accept_list())
    result, content_type, content_encoding = encode_value(document.pop("result", None), serializer_of(message.content_type) or "json")
    return replace(from_document(dumps_json(document)), result=result, content_type=content_type, content_encoding=content_encoding)
