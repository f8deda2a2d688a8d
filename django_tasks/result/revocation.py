"""Keeping tasks from running."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from signal import Signals
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.apps import apps
from django.db import connections, router, transaction
from django.utils import timezone

from django_tasks import clock, result_backends, states
from django_tasks.dbaccess import told_to_async_code, trying_again
from django_tasks.exceptions import TaskRevokedError, TimeoutError
from django_tasks.result.arguments import LONGEST_ID, is_id
from django_tasks.result.family import ResultBase
from django_tasks.result_backends.backend import ResultBackend, ResultMeta
from django_tasks.result_backends.encoding import encode_exception, encode_value
from django_tasks.serializers import dumps_json

#: Of tasks in these states nothing has happened yet that could still end otherwise.
_NOT_RUNNING = frozenset({states.PENDING, states.RECEIVED, states.RETRY, states.REJECTED})


class Revocable:
    """The part of results of one task and of several that is about keeping these from running."""

    def revoke(
        self, connection: Any = None, terminate: bool = False, signal: str | None = None, wait: bool = False, timeout: float | None = None
    ) -> None:
        """Keep the task, or all of them, from running; with ``terminate`` stop what runs.

        Workers heed it within a second or two, also ones that start later. ``signal`` is kept for the record: a
        process is always killed. ``wait`` waits until all are ready, ``timeout`` seconds at most (1 if None).
        """
        del connection
        self._revoke(terminate=terminate, signal=signal)
        if wait:
            self._await_end(timeout)

    async def arevoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109  revoke()'s argument
    ) -> None:
        """Do what ``revoke`` does, from async code."""
        await sync_to_async(self.revoke, thread_sensitive=True)(connection, terminate, signal, wait, timeout)

    def revoke_by_stamped_headers(
        self,
        headers: Mapping[str, Any] | Iterable[str],
        connection: Any = None,
        terminate: bool = False,
        signal: str | None = None,
        wait: bool = False,
        timeout: float | None = None,
    ) -> None:
        """Keep every task from running that has one of these stamps, of this result or not; see ``app.control.revoke_by_stamped_headers``.

        ``wait`` waits until this result is ready, ``timeout`` seconds at most (1 if None).
        """
        del connection
        revoke_stamped(headers, terminate=terminate, signal=signal)
        if wait:
            self._await_end(timeout)

    def _revoke(self, *, terminate: bool, signal: str | None) -> None:
        raise NotImplementedError

    def _await_end(self: Any, timeout: float | None) -> None:
        with suppress(TimeoutError):
            self.get(timeout=1 if timeout is None else timeout, propagate=False, disable_sync_subtasks=False)


def revoke_tasks(
    task_ids: Sequence[str | UUID],
    *,
    terminate: bool = False,
    signal: str | int | None = None,
    by: str = "",
    backend: ResultBackend | None = None,
) -> None:
    """Record that these tasks are not to run; workers read that every second or so.

    Those of which nothing is known yet become REVOKED at once, so that nobody waits for them. Raises TypeError for what is no
    id, and ValueError for what is no signal; nothing is revoked then.
    """
    named, chosen = list(dict.fromkeys(_id(task_id) for task_id in task_ids)), _signal_name(signal)
    terminate = _yes_or_no(terminate)
    if not named:
        return
    # In one order everywhere, so that two that revoke the same tasks don't wait for each other.
    said = {"terminate": terminate, "signal": chosen, "revoked_at": timezone.now(), "revoked_by": by}
    with told_to_async_code("Revoking"):
        _write([{"task_id": task_id, **said} for task_id in sorted(named)])
    store = backend or result_backends.current()
    if not store.reads:
        return
    known = store.fetch(named)
    text, content_type, content_encoding = encode_value(encode_exception(TaskRevokedError("revoked")))
    store.store(
        [
            ResultMeta(
                task_id=task_id,
                status=states.REVOKED,
                result=text,
                content_type=content_type,
                content_encoding=content_encoding,
                date_done=clock.now(),
            )
            for task_id in named
            if task_id not in known or known[task_id].status in _NOT_RUNNING
        ]
    )


def _write(rows: Sequence[Mapping[str, Any]]) -> None:
    """Write these revocations in the place of what was written before of their tasks, also beside others who revoke them now."""
    model = apps.get_model("django_tasks", "Revocation")
    alias = router.db_for_write(model)
    connection, table = connections[alias], model.objects.using(alias)
    unique = ["task_id"] if connection.features.supports_update_conflicts_with_target else None

    def write() -> None:
        with transaction.atomic(using=alias):
            # First something that waits for others, and makes others wait: where two began by deleting, neither would see the
            # other's new row, and the second could not insert its own.
            table.bulk_create([model(**row) for row in rows], update_conflicts=True, update_fields=["revoked_at"], unique_fields=unique)
            # Then anew, with a larger id: that is how workers notice.
            table.filter(task_id__in=[row["task_id"] for row in rows]).delete()
            table.bulk_create([model(**row) for row in rows])

    trying_again(connection, write)


def _id(given: Any) -> str:
    if given and is_id(given):
        return str(given)
    hint = f" (did you mean its id, {getattr(given, 'id', None)!r}?)" if isinstance(given, ResultBase) else ""
    takes = f"they are texts of at most {LONGEST_ID} printable characters, or UUIDs"
    raise TypeError(f"{given!r:.300} is no task id: {takes}{hint}. Nothing was revoked")


def _yes_or_no(terminate: Any) -> bool:
    if terminate is not None and (not isinstance(terminate, int) or terminate not in (0, 1)):
        raise TypeError(f"terminate takes True or False, not {terminate!r:.200}. Nothing was revoked")
    return bool(terminate)


def _signal_name(given: str | int | None) -> str:
    """Return the name of a signal that is given by name, with or without SIG, or by number."""
    try:
        if isinstance(given, int):
            return Signals(given).name
        return Signals[f"SIG{str(given or 'SIGTERM').upper().removeprefix('SIG')}"].name
    except (KeyError, ValueError):
        raise ValueError(f"{given!r} is no signal of this system; 'SIGTERM' and 9 are. Nothing was revoked") from None


def revoke_stamped(
    headers: Mapping[str, Any] | Iterable[str], *, terminate: bool = False, signal: str | int | None = None, by: str = ""
) -> None:
    """Record that tasks with one of these stamps are not to run; workers read that every second or so.

    ``headers`` names the values of each stamp, ``{"tenant": "acme", "order": [17, 18]}``, or is a list of texts, ``["tenant=acme"]``.
    A value may be whatever a stamp may be; texts are no numbers. Raises ValueError for what names no stamp, and for no signal.
    """
    named, terminate = _signal_name(signal), _yes_or_no(terminate)
    wanted = dict.fromkeys((name, dumps_json(value)) for name, value in _pairs(headers))
    rows = apps.get_model("django_tasks", "RevokedStamp").objects
    with told_to_async_code("Noting revoked stamps"), transaction.atomic(using=router.db_for_write(rows.model)):
        # Anew, with larger ids: that is how workers notice. Compared here, as some databases compare texts loosely.
        known = rows.filter(name__in={name for name, _ in wanted}).values_list("id", "name", "value")
        rows.filter(id__in=[number for number, *stamp in known if tuple(stamp) in wanted]).delete()
        rows.bulk_create(
            rows.model(name=name, value=value, terminate=terminate, signal=named, revoked_at=timezone.now(), revoked_by=by[:255])
            for name, value in wanted
        )


def _pairs(headers: Any) -> Iterable[tuple[str, Any]]:
    """Return each name with each of its values."""
    if isinstance(headers, Mapping):
        for name, values in headers.items():
            several = values if isinstance(values, list | tuple | set | frozenset) else [values]
            for value in several:
                if value is None:
                    raise ValueError(f"None is no value of a stamp: {name}. Nothing was revoked")
                yield _stamp(str(name)), value
        return
    if not isinstance(headers, Iterable) or isinstance(headers, bytes):
        raise TypeError(f'stamps are given as {{"tenant": "acme"}} or ["tenant=acme"], not as {headers!r:.200}. Nothing was revoked')
    for text in [headers] if isinstance(headers, str) else headers:
        name, equals, value = text.partition("=") if isinstance(text, str) else ("", "", "")
        if not name or not equals:
            raise ValueError(f"{text!r} names no stamp; name=value does. Nothing was revoked")
        yield _stamp(name), value


def _stamp(name: str) -> str:
    if not is_id(name):
        raise ValueError(f"{name!r:.300} names no stamp: names are at most {LONGEST_ID} printable characters. Nothing was revoked")
    return name
