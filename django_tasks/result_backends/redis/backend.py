"""``RedisResultBackend``: Celery's keys and documents, one call of the server for each batch."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cache
from operator import attrgetter
from struct import Struct
from typing import Any, Final, Self

from django_tasks import exceptions, states
from django_tasks.conf import settings
from django_tasks.redisaccess import RedisServer
from django_tasks.result_backends import lifetimes
from django_tasks.result_backends.backend import NewChord, OpenChord, ReadyChord, ResultBackend, ResultMeta
from django_tasks.result_backends.documents import from_document, to_document
from django_tasks.result_backends.merging import KEPT, folded, merged
from django_tasks.result_backends.redis import scripts
from django_tasks.result_backends.redis.chords import Chords, group_members, group_text
from django_tasks.result_backends.redis.waiting import Listeners, wait
from django_tasks.urls import URL

_TASK: Final = "celery-task-meta-"
_GROUP: Final = "celery-taskset-meta-"
#: What RESULT_BACKEND_TRANSPORT_OPTIONS may hold that is not for redis-py: ours, and what means something to Celery only.
_OPTIONS: Final = frozenset(
    {"global_keyprefix", "result_chord_ordered", "retry_policy", "additional_connection_errors", "visibility_timeout", "polling_interval"}
)
_HEAD: Final = Struct(">HIBB").pack
_known: Final = attrgetter(*KEPT)
#: Ids of one question.
_CHUNK: Final = 1000
#: Documents of one call: the server answers nobody else meanwhile.
_BATCH: Final = 500
#: How often two documents are merged anew because a third came between.
_TRIES: Final = 20


class RedisResultBackend(ResultBackend):
    """Results in a Redis server, or behind Sentinel, where Celery's clients and workers find them, and leave theirs.

    They go by themselves when RESULT_EXPIRES has passed, failures when RESULT_FAILURE_EXPIRES has.
    Of Celery's transport options it takes ``global_keyprefix``,
    ``result_chord_ordered``, ``master_name`` and ``sentinel_kwargs``; the rest are options of redis-py's connections.
    """

    def __init__(self, server: RedisServer, *, prefix: str = "", ordered: bool = True) -> None:
        self.server = server
        self._task_prefix, self._group_prefix = prefix + _TASK, prefix + _GROUP
        self._run = Scripts(server)
        self._listeners = Listeners(server)
        self._chords = Chords(self._run, prefix=self._group_prefix, ordered=ordered)

    @classmethod
    def from_urls(cls, urls: Sequence[URL]) -> Self:
        """Open ``redis://HOST:PORT/DB``, ``rediss://``, ``redis+socket:///PATH?virtual_host=DB`` or ``sentinel://``, or a list of them."""
        options = dict(settings.RESULT_BACKEND_TRANSPORT_OPTIONS)
        prefix = str(options.get("global_keyprefix") or "")
        if prefix and prefix[-1] not in ":_-.":
            prefix += "_"
        ordered = bool(options.get("result_chord_ordered", True))
        client = {name: value for name, value in options.items() if name not in _OPTIONS}
        server = RedisServer(urls, {**_connection(urls), **client}, setting="RESULT_BACKEND")
        server.check()
        return cls(server, prefix=prefix, ordered=ordered)

    @property
    def memory(self) -> str:
        """Name the server whose memory results take."""
        return self.server.memory

    # ---- results

    def store(self, metas: Sequence[ResultMeta]) -> None:
        """Keep all of them, by the rules of ``merging``: one round trip, and another where a merge needs what is kept already."""
        batch = folded(metas) if len(metas) > 1 else metas
        for start in range(0, len(batch), _BATCH):
            some = batch[start : start + _BATCH]
            records = b"".join(map(_record, some))
            unmerged = self._run("Storing results", scripts.STORE, (), (self._task_prefix, _lifetime(), records, _lifetime_of_failures()))
            for place, held in zip(unmerged[::2], unmerged[1::2], strict=True):
                self._merge(some[int(place)], held)

    def _merge(self, meta: ResultMeta, held: bytes | None) -> None:
        key = self._task_prefix + meta.task_id
        for _ in range(_TRIES):
            kept = from_document(held) if held is not None else None
            new = merged(kept, meta)
            if new is kept:
                return
            if held is None:
                # It has expired, or was forgotten, since it was looked at.
                self.store([meta])
                return
            ttl = _lifetime_of_failures() if new.status == states.FAILURE else _lifetime()
            if self._run("Storing a result", scripts.REPLACE, (key,), (held, _text(new), ttl)):
                return
            with self.server.reaching("Reading a result") as client:
                held = client.get(key)
        raise exceptions.OperationalError(f"the result of {meta.task_id} is written by others all the time; it is stored later")

    def fetch(self, task_ids: Collection[str]) -> dict[str, ResultMeta]:
        """Read what is kept of these tasks."""
        return dict(self._read(task_ids))

    def _read(self, task_ids: Iterable[str]) -> Iterator[tuple[str, ResultMeta]]:
        wanted = list(task_ids)
        for start in range(0, len(wanted), _CHUNK):
            some = wanted[start : start + _CHUNK]
            with self.server.reaching("Reading results") as client:
                found = client.mget([self._task_prefix + task_id for task_id in some])
            yield from ((task_id, from_document(text)) for task_id, text in zip(some, found, strict=True) if text is not None)

    def wait(self, task_ids: Collection[str], timeout: float | None) -> Iterator[ResultMeta]:
        """Yield each task's meta once it is ready: the server tells of it at once, and is asked now and then all the same.

        A connection that is cut is opened again for some seconds before OperationalError is raised.
        """
        return wait(self._listeners, self._task_prefix, self.fetch, task_ids, timeout)

    def forget(self, task_ids: Collection[str]) -> None:
        """Delete what is kept of these tasks."""
        self._delete("Forgetting results", [self._task_prefix + task_id for task_id in task_ids])

    def _delete(self, doing: str, keys: Sequence[str]) -> None:
        for start in range(0, len(keys), _CHUNK):
            with self.server.reaching(doing) as client:
                client.delete(*keys[start : start + _CHUNK])

    # ---- groups

    def store_group(self, group_id: str, members: Sequence[Any]) -> None:
        """Keep a group's result tuples under its id."""
        with self.server.reaching("Storing a group") as client:
            client.set(self._group_prefix + group_id, group_text(members), ex=_lifetime() or None)

    def fetch_group(self, group_id: str) -> Sequence[Any] | None:
        """Read a stored group's result tuples."""
        with self.server.reaching("Reading a group") as client:
            text = client.get(self._group_prefix + group_id)
        return None if text is None else group_members(text)

    def forget_group(self, group_id: str) -> None:
        """Delete a stored group."""
        self._delete("Forgetting a group", [self._group_prefix + group_id])

    # ---- chords

    def open_chords(self, chords: Sequence[NewChord]) -> None:
        """Expect the parts of all of them. Like Celery's, the bodies come with each part, too."""
        self._chords.open(chords)

    def grow_chord(self, group_id: str, by: int, parts: Sequence[str] = ()) -> None:
        """Expect ``by`` more parts."""
        self._chords.grow(group_id, by, parts)

    def count_chord_parts(self, metas: Sequence[ResultMeta]) -> list[ReadyChord]:
        """Count these parts, together with those that Celery's workers count; return the chords that are complete now."""
        return self._chords.count(metas)

    def close_chords(self, group_ids: Collection[str]) -> None:
        """Note that the bodies of these chords have been sent."""
        self._chords.close(group_ids)

    def reclaim_chords(self, limit: int) -> list[ReadyChord]:
        """Claim up to ``limit`` chords anew that somebody completed and did not close in time."""
        return self._chords.reclaim(limit)

    def waiting_chords(self, before: datetime, *, limit: int) -> list[OpenChord]:
        """Return chords that still wait for parts, but for those that Celery's clients have sent."""
        return self._chords.waiting(before, limit)

    def find_chords(self, group_ids: Collection[str]) -> list[OpenChord]:
        """Return those of these chords that still wait for parts, but for those that Celery's clients have sent."""
        return self._chords.find(group_ids)

    def recount_chords(self, group_ids: Collection[str]) -> list[ReadyChord]:
        """Count results of these chords' parts that were stored and not counted."""
        waiting = self._chords.uncounted(group_ids)
        stored = self.fetch([task_id for _, places in waiting.values() for task_id in places])
        metas: list[ResultMeta] = []
        for group_id, (body, places) in waiting.items():
            for each, place in ((stored[task_id], place) for task_id, place in places.items() if task_id in stored):
                # By the place that its message gave it, or it would count once more should that come again.
                known = place if each.group_index is None else each.group_index
                metas.append(replace(each, group_id=group_id, group_index=known, chord=body))
        return self._chords.count(metas)

    def expire(self, before: datetime, *, limit: int) -> int:
        """Delete nothing: the server does it."""
        return 0

    def close(self) -> None:
        """Close this process's connections."""
        self._listeners.close()
        self.server.close()


class Scripts:
    """Runs scripts by their hash; a server that doesn't know one is given it."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server
        self._known: dict[str, Any] = {}

    def __call__(self, doing: str, script: str, keys: Sequence[str], values: Sequence[Any]) -> Any:
        """Run a script; ``doing`` says what for, should that fail with OperationalError."""
        with self._server.reaching(doing) as client:
            known = self._known.get(script)
            if known is None:
                known = self._known.setdefault(script, client.register_script(script))
            return known(keys=keys, args=values, client=client)


def _connection(urls: Sequence[URL]) -> dict[str, Any]:
    options = {
        "socket_timeout": settings.REDIS_SOCKET_TIMEOUT,
        "socket_connect_timeout": settings.REDIS_SOCKET_CONNECT_TIMEOUT,
        "max_connections": settings.REDIS_MAX_CONNECTIONS,
        "ssl": settings.REDIS_BACKEND_USE_SSL,
        # A socket in the file system has no TCP to keep alive, and redis-py refuses the word.
        "socket_keepalive": None if urls[0].scheme in {"unix", "redis+socket"} else settings.REDIS_SOCKET_KEEPALIVE or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _lifetime() -> int:
    """Seconds that a result is kept; 0 for ever."""
    return _whole(lifetimes.of_results())


def _lifetime_of_failures() -> int:
    return _whole(lifetimes.of_failures())


def _whole(seconds: float | None) -> int:
    return 0 if seconds is None else max(1, int(seconds))


def _text(meta: ResultMeta) -> bytes:
    # Half a surrogate pair, as it may stand in what a project's own JSON holds, is written as JSON writes it.
    return to_document(meta).encode("utf-8", "backslashreplace")


def _record(meta: ResultMeta) -> bytes:
    document, task_id = _text(meta), meta.task_id.encode()
    names = _unknown(tuple([value is None for value in _known(meta)]))
    return _HEAD(len(task_id), len(document), len(names), meta.status in states.READY_STATES) + task_id + document + names


@cache
def _unknown(missing: tuple[bool, ...]) -> bytes:
    # A few patterns: a worker's writes know nearly everything.
    return ",".join(name for name, is_missing in zip(KEPT, missing, strict=True) if is_missing).encode()
