"""Which of several beats leads, and how the service takes failures."""

import logging
import threading
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from django.db import OperationalError as DatabaseIsAway
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from django_tasks import clock, signals
from django_tasks.beat import leader as leading
from django_tasks.beat import service as serving
from django_tasks.beat.leader import Leader
from django_tasks.beat.service import BeatService
from django_tasks.models import BeatRun, BeatTerm

pytestmark = pytest.mark.django_db(transaction=True)

START = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


class Time:
    """A clock that a test moves: the time of day and the monotonic one together, unless a beat's watch is wrong."""

    def __init__(self):
        self.passed = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return 1000 + self.passed


@pytest.fixture
def time(monkeypatch):
    found = Time()
    monkeypatch.setattr(clock, "now", found.now)
    monkeypatch.setattr(clock, "monotonic", found.monotonic)
    return found


def test_the_first_leads_and_the_second_stands_by(time):
    """There is one leader, and the row names it."""
    one, other = Leader(10), Leader(10)
    assert one.lead(time.now())
    assert not other.lead(time.now())
    assert (one.leads(), other.leads()) == (True, False)
    assert BeatTerm.objects.get().holder == one.holder


def test_a_leader_renews_and_stays(time):
    """For as long as it calls, nobody else leads."""
    one, other = Leader(10), Leader(10)
    for _ in range(100):
        assert one.lead(time.now())
        assert not other.lead(time.now())
        time.passed += min(one.pause(time.now()), other.pause(time.now()), 1.0)
    assert time.passed > 50


def test_renewing_costs_a_query_only_at_half_time(time, django_assert_num_queries):
    """Between two renewals the leader asks no one."""
    one = Leader(10)
    one.lead(time.now())
    time.passed = 4.9
    with django_assert_num_queries(0):
        assert one.lead(time.now())
    assert one.pause(time.now()) == pytest.approx(0.1)
    time.passed = 5
    with django_assert_num_queries(1):
        assert one.lead(time.now())


def test_a_silent_leader_is_succeeded_within_its_term(time):
    """Killed right after it renewed, the worst moment: ten seconds later another one leads."""
    one, other = Leader(10), Leader(10)
    one.lead(time.now())
    while not other.lead(time.now()):
        time.passed += other.pause(time.now())
    assert 0 < time.passed < 10
    assert not one.leads()
    assert other.predecessor_at == START


def test_the_old_leader_steps_down_before_the_new_one_starts(time):
    """There is a moment without a leader, never one with two."""
    one, other = Leader(10), Leader(10)
    one.lead(time.now())
    while time.passed < 20:
        time.passed += 0.1
        if other.lead(time.now()):
            break
        assert not other.leads()
    assert not one.leads()


def test_one_who_comes_back_late_has_lost(time):
    """A leader that slept through its term finds another one, and stands by."""
    one, other = Leader(10), Leader(10)
    one.lead(time.now())
    time.passed = 30
    assert other.lead(time.now())
    assert not one.lead(time.now())
    assert not one.leads()


def test_resigning_lets_another_lead_at_once(time):
    """A clean stop costs no term."""
    one, other = Leader(10), Leader(10)
    one.lead(time.now())
    assert not other.lead(time.now())
    one.resign()
    assert not one.leads()
    assert other.pause(time.now()) <= 1
    assert other.lead(time.now())


def test_one_who_never_led_takes_nothing_away_by_resigning(time):
    """Followers stop without disturbing the leader."""
    one, other = Leader(10), Leader(10)
    one.lead(time.now())
    other.lead(time.now())
    other.resign()
    time.passed = 5
    assert one.lead(time.now())


def test_a_leader_with_a_fast_watch_does_not_block_the_others(time):
    """Its row says that it leads until tomorrow; as it doesn't renew, it is taken for gone after a term."""
    other = Leader(10)
    BeatTerm.objects.create(name="beat", holder="gone", elected_at=START, expires_at=START + timedelta(days=1))
    while not other.lead(time.now()):
        time.passed += other.pause(time.now())
    assert 8 < time.passed < 11


def test_a_slow_attempt_is_not_trusted(time, monkeypatch):
    """If taking the lead itself outlasts the lease, it is not led upon."""
    one = Leader(10)
    take_over = one._take_over

    def slow(now):
        won = take_over(now)
        time.passed += 9
        return won

    monkeypatch.setattr(one, "_take_over", slow)
    assert not one.lead(time.now())


def test_only_one_wins_a_race_for_a_lapsed_term(time, monkeypatch):
    """Both have read the row; the one that writes second finds it changed."""
    BeatTerm.objects.create(name="beat", holder="gone", elected_at=START, expires_at=START)
    one, other = Leader(10), Leader(10)
    time.passed = 1
    lease = one._lease

    def overtaken(now):
        assert other.lead(time.now())
        return lease(now)

    monkeypatch.setattr(one, "_lease", overtaken)
    assert not one.lead(time.now())
    assert other.leads()


def test_two_that_found_the_row_at_once(time, monkeypatch):
    """The very first election has one winner, too."""
    one, other = Leader(10), Leader(10)
    lease = one._lease

    def overtaken(now):
        assert other.lead(time.now())
        return lease(now)

    monkeypatch.setattr(one, "_lease", overtaken)
    assert not one.lead(time.now())


def periodic(name="beat", every=1):
    interval, _ = IntervalSchedule.objects.get_or_create(every=every, period="seconds")
    row = PeriodicTask.objects.create(name=name, task="t", interval=interval)
    PeriodicTask.objects.filter(pk=row.pk).update(date_changed=START)


def test_services_hand_over(time):
    """The second goes on where the first was killed: no due time twice, the gap made up for by one run."""
    periodic()
    one, other = BeatService(term=10), BeatService(term=10)
    while time.passed < 5:
        one.turn(time.now())
        other.turn(time.now())
        time.passed += 0.25
    killed_at = time.passed
    while BeatRun.objects.count() < 8:
        time.passed += other.turn(time.now())
    due = list(BeatRun.objects.order_by("due_at").values_list("due_at", flat=True))
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(due)]
    assert all(gap >= 1 for gap in gaps)
    assert max(gaps) < 10
    assert time.passed - killed_at < 14


def test_a_service_that_lost_its_term_reads_everything_anew(time, caplog):
    """What it knew may be old by the next time it leads."""
    one, other = BeatService(term=10), BeatService(term=10)
    one.turn(time.now())
    assert one.scheduler is not None
    time.passed = 30
    other.turn(time.now())
    with caplog.at_level(logging.WARNING, logger="django_tasks.beat"):
        one.turn(time.now())
    assert one.scheduler is None
    assert "stands by" in caplog.text


class Countdown(threading.Event):
    """A stop event that is set after some waits; it never really waits."""

    def __init__(self, time, turns):
        super().__init__()
        self.time, self.turns, self.pauses = time, turns, []

    def wait(self, timeout=None):
        self.pauses.append(timeout)
        self.time.passed += max(timeout, 0.01)
        self.turns -= 1
        if self.turns <= 0:
            self.set()
        return self.is_set()


def test_a_database_that_is_away_is_waited_for(time, monkeypatch, caplog):
    """Each attempt is logged, the pauses grow, and the schedule goes on when it is back."""
    periodic()
    service = BeatService(term=10)
    turn, failures = service.turn, [DatabaseIsAway("server closed the connection")] * 8

    def flaky(now):
        if time.passed > 2 and failures:
            raise failures.pop()
        return turn(now)

    monkeypatch.setattr(service, "turn", flaky)
    stop = Countdown(time, 40)
    with caplog.at_level(logging.INFO, logger="django_tasks.beat"):
        service.run(stop)
    assert not failures
    assert caplog.text.count("Beat can't go on") == 8
    assert "server closed the connection" in caplog.text
    assert "goes on after 8 failed" in caplog.text
    assert max(stop.pauses) == 5
    assert BeatRun.objects.count() > 5


def test_an_error_of_our_own_is_logged_with_its_traceback_and_survived(time, monkeypatch, caplog):
    """A defect in one turn does not end beat."""
    service = BeatService(term=10)
    turn, failures = service.turn, [ZeroDivisionError("defect")]

    def flaky(now):
        if failures:
            raise failures.pop()
        return turn(now)

    monkeypatch.setattr(service, "turn", flaky)
    with caplog.at_level(logging.ERROR, logger="django_tasks.beat"):
        service.run(Countdown(time, 5))
    assert "ZeroDivisionError: defect" in caplog.text
    assert service.leader.holder == BeatTerm.objects.get().holder


def test_a_stopped_service_resigns(time):
    """Its term ends with it."""
    service = BeatService(term=10)
    service.run(Countdown(time, 3))
    assert BeatTerm.objects.get().expires_at <= time.now()
    assert service.scheduler is None


def test_a_service_stops_though_the_database_is_away(time, monkeypatch, caplog):
    """It says that its term ends by itself."""
    service = BeatService(term=10)
    stop = Countdown(time, 3)
    monkeypatch.setattr(service.leader, "resign", lambda: (_ for _ in ()).throw(DatabaseIsAway("gone")))
    with caplog.at_level(logging.WARNING, logger="django_tasks.beat"):
        service.run(stop)
    assert "without giving up its term" in caplog.text


@pytest.mark.parametrize("embedded", [True, False])
def test_beat_says_that_it_starts(time, embedded):
    """Celery's signals, by whether beat runs by itself."""
    heard = []
    receivers = {name: (lambda sender, name=name, **_: heard.append((name, sender))) for name in ("beat_init", "beat_embedded_init")}
    for name, receiver in receivers.items():
        getattr(signals, name).connect(receiver)
    try:
        service = BeatService(embedded=embedded)
        service.run(Countdown(time, 1))
    finally:
        for name, receiver in receivers.items():
            getattr(signals, name).disconnect(receiver)
    assert heard == [("beat_embedded_init" if embedded else "beat_init", service)]


def test_a_service_in_a_thread_stops_when_told(settings):
    """As a worker runs it: with real time, and an event."""
    periodic()
    stop = threading.Event()
    thread = threading.Thread(target=BeatService(max_interval=0.05).run, args=(stop,))
    thread.start()
    deadline = clock.monotonic() + 10
    while not BeatTerm.objects.exists() and clock.monotonic() < deadline:
        threading.Event().wait(0.01)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
    assert BeatTerm.objects.exists()


def test_the_parts_of_a_term_leave_room():
    """Renew before trust ends, stop trusting before the lease ends, and end the lease within the term."""
    assert leading.RENEW < leading.TRUST < leading.LEASE < 1
    assert serving._FIRST_PAUSE < serving._LONGEST_PAUSE
