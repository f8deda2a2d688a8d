"""Another time for a while."""

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from django_tasks import clock
from django_tasks.testing import travel

LATER = datetime(2040, 5, 6, 7, 8, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def test_the_clock_and_djangos_clock_move_and_come_back():
    """Inside the block both say the other time; functions that modules hold already do, too."""
    now, django_now = clock.now, timezone.now
    with travel(to=LATER, tick=False):
        assert now() == django_now() == clock.now() == LATER
        assert clock.timestamp() == LATER.timestamp()
        assert clock.after(60) == LATER + MINUTE
        assert timezone.localtime().replace(tzinfo=None) == LATER.replace(tzinfo=None)
    assert abs(now() - datetime.now(UTC)) < MINUTE
    assert abs(django_now() - datetime.now(UTC)) < MINUTE


def test_time_goes_on_unless_it_is_stopped():
    """By default time passes from there."""
    with travel(hours=2):
        first = clock.now()
        assert clock.now() > first
        assert abs(first - datetime.now(UTC) - timedelta(hours=2)) < MINUTE


def test_a_journey_goes_on():
    """to() and by() move from where the journey is; blocks in blocks move from the outer one's time."""
    with travel(to=LATER, tick=False) as journey:
        journey.by(hours=1)
        assert clock.now() == LATER + timedelta(hours=1)
        with travel(days=1, tick=False):
            assert clock.now() == LATER + timedelta(days=1, hours=1)
        journey.to(datetime(2041, 1, 1))  # noqa: DTZ001  naive means UTC
        assert clock.now() == datetime(2041, 1, 1, tzinfo=UTC)


def test_dates_stay_real_dates():
    """What the clock parses and checks is not changed by the block."""
    with travel(to=LATER):
        assert type(clock.parse_iso("2030-01-01T00:00:00+00:00")) is datetime
        assert clock.expiry(datetime(2030, 1, 1, tzinfo=UTC)) == datetime(2030, 1, 1, tzinfo=UTC)
        assert type(clock.now()) is datetime


def test_a_time_and_a_difference_are_one_too_many():
    """Both at once are refused."""
    with pytest.raises(TypeError, match="not both"), travel(to=LATER, hours=1):
        pass
