"""Time and its conversions."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from django_tasks import clock

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


def test_now_is_aware_and_in_utc():
    """The current time has the offset zero and lies between two looks at the system's clock."""
    before, moment, after = datetime.now(UTC), clock.now(), datetime.now(UTC)
    assert before <= moment <= after
    assert moment.utcoffset() == timedelta(0)


def test_after_counts_from_now():
    """A countdown becomes a time that many seconds ahead."""
    assert timedelta(seconds=5) < clock.after(10) - clock.now() <= timedelta(seconds=10)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T12:00:00+00:00", NOON),
        ("2026-01-02T14:00:00+02:00", NOON),
        ("2026-01-02T12:00:00Z", NOON),
        ("2026-01-02T12:00:00", NOON),
        (None, None),
    ],
)
def test_times_of_any_offset_are_read(text, expected):
    """ISO 8601 text becomes a time in UTC, and a naive one counts as UTC."""
    assert clock.parse_iso(text) == expected


def test_text_that_is_no_time_is_refused():
    """Nonsense raises ValueError."""
    with pytest.raises(ValueError, match="tomorrow"):
        clock.parse_iso("tomorrow")


@pytest.mark.parametrize(
    "expires",
    [NOON, NOON.replace(tzinfo=None), NOON.astimezone(timezone(timedelta(hours=5))), NOON.isoformat()],
)
def test_an_expiry_in_any_form_is_a_time_in_utc(expires):
    """Aware, naive and written times mean the same."""
    assert clock.expiry(expires) == NOON
    assert clock.expiry(expires).utcoffset() == timedelta(0)


def test_an_expiry_in_seconds_counts_from_now():
    """Numbers and timedeltas are counted from now, and None is none."""
    assert timedelta(seconds=50) < clock.expiry(60) - clock.now() <= timedelta(seconds=60)
    assert timedelta(seconds=50) < clock.expiry(timedelta(minutes=1)) - clock.now() <= timedelta(seconds=60)
    assert clock.expiry(None) is None
