"""What an entry sends, and when it may."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from django_tasks import conf
from django_tasks.beat import declared
from django_tasks.beat.entries import BrokenEntryError, Entry, schedule_zone
from django_tasks.beat.occurrences import Interval
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.registry import registry
from django_tasks.schedules import solar

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def entry(**fields) -> Entry:
    plain = {"name": "e", "task": "t", "occurrences": Interval(timedelta(seconds=10), START), "args": (), "kwargs": {}, "options": {}}
    return Entry(**{**plain, **fields})


def test_a_start_time_holds_runs_back():
    """The first run is the first occurrence that isn't before it."""
    late = entry(start_time=at(20))
    assert late.next_run(at(0)) == at(20)
    assert late.next_run(at(20)) == at(30)
    assert entry(start_time=at(21)).next_run(at(0)) == at(30)


def test_nothing_is_due_once_it_has_expired():
    """The moment of expiry itself is too late."""
    brief = entry(expires=at(20))
    assert brief.next_run(at(0)) == at(10)
    assert brief.next_run(at(10)) is None
    assert brief.last_run(at(10), at(500)) == at(10)


def test_the_last_run_of_an_interval_is_found_by_division():
    """Microseconds over years included."""
    fast = entry(occurrences=Interval(timedelta(microseconds=1), START))
    assert fast.last_run(at(0.5), at(86_400 * 3000)) == at(86_400 * 3000)


def test_a_run_has_one_id_everywhere():
    """It depends on the name and the due time, and on nothing else."""
    assert entry().run_id(at(10)) == entry(args=(1,), task="other").run_id(at(10)) == "5c7acabe-2eda-5c49-bae7-7d307e5d3a83"
    assert entry().run_id(at(10)) != entry().run_id(at(20))
    assert entry(name="f").run_id(at(10)) != entry().run_id(at(10))


def test_the_message_carries_the_entry():
    """Arguments, options, and the header by which results are found."""
    message = entry(args=(1,), kwargs={"a": 2}, options={"queue": "q", "priority": 3, "headers": {"x": "y"}}).message(at(10))
    assert (message.task, list(message.args), dict(message.kwargs)) == ("t", [1], {"a": 2})
    assert (message.queue, message.priority, message.id) == ("q", 3, entry().run_id(at(10)))
    assert message.headers == {"x": "y", "periodic_task_name": "e"}


def test_a_known_task_adds_its_own_options(monkeypatch):
    """The entry's win."""

    class Known:
        def call_options(self, args, kwargs, options):
            return {"queue": "own", "priority": 1, **options}

    monkeypatch.setitem(registry._tasks, "t", Known())
    message = entry(options={"priority": 9}).message(at(10))
    assert (message.queue, message.priority) == ("own", 9)


def test_functions_among_the_arguments_are_called_for_each_message():
    """As Celery's BeatLazyFunc is."""
    numbers = iter(range(10))
    lazy = entry(args=(lambda: next(numbers),), kwargs={"n": lambda: next(numbers)})
    assert [list(lazy.message(at(10)).args), dict(lazy.message(at(20)).kwargs)] == [[0], {"n": 3}]


def test_an_option_that_does_not_exist_is_refused():
    """By the room that knows them all."""
    with pytest.raises(TypeError, match="quue"):
        entry(options={"quue": "x"}).message(at(10))


@pytest.mark.parametrize(("configured", "expected"), [("Asia/Tokyo", "Asia/Tokyo"), (None, "Europe/Berlin")])
def test_the_zone_of_schedules(settings, configured, expected):
    """TIMEZONE, else Django's."""
    settings.TIME_ZONE = "Europe/Berlin"
    settings.DJANGO_TASKS = {"TIMEZONE": configured}
    conf.settings.reset()
    try:
        assert schedule_zone() == ZoneInfo(expected)
    finally:
        conf.settings.reset()


def test_a_zone_that_does_not_exist_is_named(settings):
    """The setting and its value."""
    settings.DJANGO_TASKS = {"TIMEZONE": "Mars/Olympus"}
    conf.settings.reset()
    try:
        with pytest.raises(ImproperlyConfigured, match="TIMEZONE is 'Mars/Olympus'"):
            schedule_zone()
    finally:
        conf.settings.reset()


def test_a_declared_schedule_that_never_comes_is_refused():
    """Beat would wait for it without a word."""
    pytest.importorskip("ephem")
    with pytest.raises(BrokenEntryError, match="never comes"):
        declared.read("e", {"task": "t", "schedule": solar("sunrise", 90, 0)}, zone=ZoneInfo("UTC"))


def test_a_declaration_written_for_django_celery_beat_is_understood():
    """``expire_seconds`` among its options, and keys that only its rows have."""
    spec = {"task": "t", "schedule": 10, "options": {"expire_seconds": 60}, "description": "words", "start_time": at(5)}
    found = declared.read("e", spec, zone=ZoneInfo("UTC"))
    assert found.options == {"expires": 60}
    assert found.next_run(at(0)) == at(5)
    assert found.next_run(at(5)) == at(15)


def test_a_task_object_is_as_good_as_its_name():
    """BEAT_SCHEDULE in code may name the task itself."""

    class Task:
        name = "shop.tasks.count"

    assert declared.read("e", {"task": Task(), "schedule": 10}, zone=ZoneInfo("UTC")).task == "shop.tasks.count"


def test_a_name_that_no_record_can_hold_is_refused():
    """It would break the whole batch in the database."""
    with pytest.raises(BrokenEntryError, match="255"):
        declared.read("x" * 256, {"task": "t", "schedule": 10}, zone=ZoneInfo("UTC"))
