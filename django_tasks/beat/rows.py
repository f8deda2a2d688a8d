"""django-celery-beat's rows: read as plain columns, turned into entries, and marked when they have run.

Rows are never saved as objects: that would fire the signals by which django-celery-beat tells that a schedule has changed,
and every run would look like an edit.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

from django.apps import apps
from django.db import connections, router
from django.db.models import Case, CharField, DateTimeField, ExpressionWrapper, F, QuerySet, Value, When

from django_tasks import clock
from django_tasks.beat.entries import BrokenEntryError, Entry
from django_tasks.beat.moments import from_local, local
from django_tasks.beat.occurrences import Crontab, Interval, Occurrences, Once, Solar
from django_tasks.exceptions import SerializationError
from django_tasks.schedules import crontab, solar
from django_tasks.serializers import loads_json

APP: Final = "django_celery_beat"
_CRON_FIELDS: Final = ("minute", "hour", "day_of_week", "day_of_month", "month_of_year")
_PERIODS: Final = ("days", "hours", "minutes", "seconds", "microseconds")
_OWN: Final = (
    "pk", "name", "task", "args", "kwargs", "queue", "exchange", "routing_key", "headers", "priority",
    "expires", "expire_seconds", "one_off", "start_time", "date_changed",
)  # fmt: skip
_SCHEDULES: Final = (
    "interval_id", "interval__every", "interval__period",
    "crontab_id", *(f"crontab__{field}" for field in _CRON_FIELDS), "zone",
    "solar_id", "solar__event", "solar__latitude", "solar__longitude",
    "clocked_id", "clocked__clocked_time",
)  # fmt: skip
#: What is read of a row. The last column changes with every run, so it is no part of what makes a row another one.
COLUMNS: Final = (*_OWN, *_SCHEDULES, "last_run_at")
#: Rows in one statement: SQLite's oldest limit on parameters is 999.
_CHUNK: Final = 500
#: The largest number that a column holds.
_LARGEST: Final = 2**63 - 1

T = TypeVar("T")


def installed() -> bool:
    """Whether the project has django-celery-beat."""
    return apps.is_installed(APP)


def enabled_count() -> int:
    """Return how many rows are switched on; 0 where the project has no django-celery-beat."""
    return _rows().filter(enabled=True).count() if installed() else 0


def alias() -> str:
    """Return the database of the rows."""
    return router.db_for_write(_model())


def _model() -> Any:
    return apps.get_model(APP, "PeriodicTask")


def _rows() -> QuerySet[Any]:
    found: QuerySet[Any] = _model().objects.using(alias())
    return found


def last_change() -> datetime | None:
    """Return when the schedules were last changed, as django-celery-beat keeps it. One cheap query."""
    changes = apps.get_model(APP, "PeriodicTasks").objects.using(alias())
    found: datetime | None = changes.filter(ident=1).values_list("last_update", flat=True).first()
    return found


def tell_change() -> None:
    """Say that rows were changed, as their admin does, so that other beats look."""
    apps.get_model(APP, "PeriodicTasks").update_changed()


def enabled(*, changed_since: datetime | None = None) -> list[tuple[Any, ...]]:
    """Read the enabled rows, as COLUMNS; only those written since a moment, if one is given."""
    rows = _rows().filter(enabled=True)
    if changed_since is not None:
        rows = rows.filter(date_changed__gt=local(changed_since))
    return list(_columns(rows))


def named(names: Collection[str]) -> list[tuple[tuple[Any, ...], bool]]:
    """Read the rows of these names, each with whether it is enabled."""
    found = []
    for chunk in chunks(names):
        found += [(row[:-1], row[-1]) for row in _columns(_rows().filter(name__in=chunk), "enabled")]
    return found


def _columns(rows: QuerySet[Any], *more: str) -> QuerySet[Any]:
    # The zone as text: its field raises for a name it doesn't know, and one such row would hide all the others.
    zone = ExpressionWrapper(F("crontab__timezone"), output_field=CharField())
    found: QuerySet[Any] = rows.annotate(zone=zone).order_by("pk").values_list(*COLUMNS, *more)
    return found


def columns_of(row: Any) -> tuple[Any, ...]:
    """Return what is read of a row, from an object that has it already."""
    return tuple(_value(row, column) for column in COLUMNS)


def _value(row: Any, column: str) -> Any:
    if column == "zone":
        return None if row.crontab is None else str(row.crontab.timezone or "")
    relation, _, field = column.partition("__")
    if not field:
        return getattr(row, column)
    related = getattr(row, relation)
    return None if related is None else getattr(related, field)


def lock_enabled(keys: Collection[int]) -> set[int]:
    """Return which of these rows are enabled still; held so until the transaction on their database ends, if one is open."""
    found: set[int] = set()
    held = _rows().select_for_update() if connections[alias()].in_atomic_block else _rows()
    for chunk in chunks(keys):
        # Always in the same order, or two beats could wait for each other.
        found.update(held.filter(pk__in=chunk, enabled=True).order_by("pk").values_list("pk", flat=True))
    return found


def mark_runs(runs: Iterable[tuple[int, datetime]]) -> None:
    """Write the due time of each row's run as its last run, and count it."""
    by_time: dict[datetime, list[int]] = {}
    for key, due_at in runs:
        by_time.setdefault(due_at, []).append(key)
    single = [(keys[0], due_at) for due_at, keys in by_time.items() if len(keys) == 1]
    for due_at, keys in by_time.items():
        for chunk in chunks(keys) if len(keys) > 1 else ():
            _rows().filter(pk__in=chunk).update(last_run_at=local(due_at), total_run_count=F("total_run_count") + 1)
    for part in chunks(single, _CHUNK // 4):
        cases = [When(pk=key, then=Value(local(due_at))) for key, due_at in part]
        _rows().filter(pk__in=[key for key, _ in part]).update(
            last_run_at=Case(*cases, output_field=DateTimeField()),
            total_run_count=F("total_run_count") + 1,
        )


def disable(keys: Collection[int]) -> None:
    """Switch rows off that will not run again, and say so."""
    for chunk in chunks(keys):
        _rows().filter(pk__in=chunk).update(enabled=False)
    tell_change()


def mark_enabled(keys: Collection[int], moment: datetime) -> None:
    """Keep since when rows are enabled that were switched on without being saved, as the admin's actions do."""
    for chunk in chunks(keys):
        _rows().filter(pk__in=chunk, date_changed__lt=local(moment)).update(date_changed=local(moment))


def chunks(values: Iterable[T], size: int = _CHUNK) -> Iterable[list[T]]:
    """Cut values into lists of at most ``size``."""
    rest = iter(values)
    while part := list(islice(rest, size)):
        yield part


# -- rows to entries ----------------------------------------------------------------------------------------------


def first_interval(columns: Sequence[Any]) -> tuple[int, datetime] | None:
    """Return the interval, in microseconds, and the date of a row, as COLUMNS, that never ran and whose interval has no start time.

    None for any other row.
    """
    row = dict(zip(COLUMNS, columns, strict=True))
    if row["interval_id"] is None or row["last_run_at"] is not None or row["start_time"] is not None:
        return None
    try:
        every = _every(row) // timedelta(microseconds=1)
    except BrokenEntryError:
        return None
    return min(every, _LARGEST), from_local(row["date_changed"]) or clock.EPOCH


def read(columns: Sequence[Any], *, zone: tzinfo, start: datetime | None = None) -> Entry:
    """Turn a row, as COLUMNS, into an entry. ``start`` is from when on the interval of one that never ran counts; None is its date.

    Raises BrokenEntryError for one that can't be scheduled.
    """
    row = dict(zip(COLUMNS, columns, strict=True))
    start_time = from_local(row["start_time"])
    last_run_at = from_local(row["last_run_at"])
    changed = from_local(row["date_changed"]) or clock.EPOCH
    occurrences = _occurrences(row, zone, start_time, last_run_at or start or changed)
    return Entry(
        name=row["name"],
        task=row["task"],
        occurrences=occurrences,
        args=_json(row, "args", list),
        kwargs=_json(row, "kwargs", dict),
        options=_options(row),
        since=_since(last_run_at, changed, once=isinstance(occurrences, Once)),
        start_time=start_time,
        expires=from_local(row["expires"]),
        one_off=row["one_off"] or isinstance(occurrences, Once),
        pk=row["pk"],
    )


def _since(last_run_at: datetime | None, changed: datetime, *, once: bool) -> datetime:
    if once:
        # A time that had passed when the row was written runs at once, as with Celery, but never twice.
        return last_run_at or clock.EPOCH
    # What was due before the row was last changed isn't made up for: it was switched off then, or had other times.
    return max(last_run_at or changed, changed)


def _occurrences(row: Mapping[str, Any], zone: tzinfo, start_time: datetime | None, written: datetime) -> Occurrences:
    if row["interval_id"] is not None:
        return _interval(row, start_time, written)
    if row["crontab_id"] is not None:
        return _crontab(row["zone"] or str(zone), *(row[f"crontab__{field}"] for field in _CRON_FIELDS))
    if row["solar_id"] is not None:
        return _solar(row["solar__event"], row["solar__latitude"], row["solar__longitude"])
    moment = from_local(row["clocked__clocked_time"])
    if moment is None:
        raise BrokenEntryError("it has no schedule: choose an interval, a crontab, a solar event or a clocked time")
    return Once(moment)


def _every(row: Mapping[str, Any]) -> timedelta:
    number, period = row["interval__every"], row["interval__period"]
    if period not in _PERIODS:
        raise BrokenEntryError(f"its interval's period is {period!r}: there are {', '.join(_PERIODS)}")
    try:
        every = timedelta(**{period: number})
    except (OverflowError, TypeError):
        every = timedelta(0)
    if every <= timedelta(0):
        raise BrokenEntryError(f"its interval is {number!r} {period}: it must be longer than nothing and shorter than for ever")
    return every


def _interval(row: Mapping[str, Any], start_time: datetime | None, written: datetime) -> Interval:
    every = _every(row)
    # The grid goes through the start time; else through the last due time, which lies on it already; else through the
    # second in which the row was first written, as ``starts`` has it. All of it is on record, so every process sees one
    # grid, and unlike a grid through 1970 it doesn't make all the daily tasks of a project due at the same midnight.
    if start_time is None and not every.microseconds:
        written = written.replace(microsecond=0)
    return Interval(every, start_time or written)


@lru_cache(maxsize=4096)
def _crontab(zone: str, *fields: str) -> Crontab:
    try:
        where = ZoneInfo(zone)
    except (LookupError, ValueError, OSError):
        raise BrokenEntryError(f"its crontab's time zone is {zone!r}: no time zone has this name") from None
    try:
        found = Crontab(crontab(**dict(zip(_CRON_FIELDS, fields, strict=True))), where)
    except Exception as error:
        raise BrokenEntryError(_crontab_fault(fields) or f"its crontab can't be: {error}") from error
    if found.after(clock.now()) is None:
        raise BrokenEntryError("its crontab names a date that never comes")
    return found


def _crontab_fault(fields: Sequence[str]) -> str | None:
    for name, text in zip(_CRON_FIELDS, fields, strict=True):
        try:
            crontab(**{name: text})
        except Exception as error:  # noqa: BLE001  the parser raises whatever a text makes it stumble over
            return f"its crontab's {name} is {text!r}: {error}"
    return None


def _solar(event: str, latitude: Decimal, longitude: Decimal) -> Solar:
    try:
        found, comes = _solar_event(event, float(latitude), float(longitude))
    except Exception as error:
        raise BrokenEntryError(f"its solar schedule ({event!r} at {latitude}, {longitude}) can't be: {error}") from error
    if not comes:
        raise BrokenEntryError(f"its solar event never comes: there is no {event} at {latitude}, {longitude} in any year")
    return found


@lru_cache(maxsize=1024)
def _solar_event(event: str, latitude: float, longitude: float) -> tuple[Solar, bool]:
    # Whether it ever comes takes a look at every day of a year.
    found = Solar(solar(event, latitude, longitude))
    return found, found.after(clock.now()) is not None


def _json(row: Mapping[str, Any], column: str, kind: type[T]) -> T:
    text = row[column]
    if not text:
        return kind()
    try:
        value = loads_json(text)
    except (SerializationError, ValueError) as error:
        raise BrokenEntryError(f"its {column} are {text!r}, which is no JSON: {error}") from error
    if not isinstance(value, kind):
        raise BrokenEntryError(f"its {column} are {text!r}, but must be a JSON {'array' if kind is list else 'object'}")
    return value


def _options(row: Mapping[str, Any]) -> dict[str, Any]:
    options = {name: row[name] for name in ("queue", "exchange", "routing_key", "priority") if row[name] not in {None, ""}}
    options["headers"] = _json(row, "headers", dict)
    expires = from_local(row["expires"]) or row["expire_seconds"]
    if expires is not None:
        options["expires"] = expires
    return options
