"""Real ``runbeat`` processes: two on one database, one of them killed."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from django.db import connections
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask, PeriodicTasks

from django_tasks import clock
from django_tasks.models import BeatRun, BeatTerm, Message, TaskResult
from tests.processes import DEADLINE, ROOT, SOON, wait_until
from tests.sampleapp.models import Effect

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.django_db(transaction=True, databases=["default", "postgres"]),
]

#: BEAT_TERM of the tests, in seconds.
TERM = 3.0


class BeatProcess:
    """A ``runbeat`` process, its output as it comes."""

    def __init__(self, environment: dict[str, str], *arguments: str) -> None:
        command = [sys.executable, "-m", "django", "runbeat", "-l", "INFO", *arguments]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self.process.pid

    @property
    def output(self) -> str:
        """All that it has printed so far."""
        return "".join(self.lines)

    def says(self, text: str) -> None:
        """Wait until it has printed this."""
        wait_until(lambda: text in self.output or self.process.poll() is not None, f"{text!r} from beat, which said:\n{self.output}")
        self._reader.join(1 if self.process.poll() is not None else 0)
        assert text in self.output, f"beat ended with {self.process.returncode} without saying {text!r}:\n{self.output}"

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            pytest.fail(f"beat did not end after signal {number}:\n{self.output}")
        self._reader.join(5)
        return status

    def clear(self) -> None:
        """Make sure that nothing of it is left."""
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait(5)
        self._reader.join(5)
        self.process.stdout.close()


StartBeat = Callable[..., BeatProcess]

ROUTER = "tests.acceptance.test_beat_processes.OnPostgres"


class OnPostgres:
    """Keeps everything in PostgreSQL, for processes and for the test."""

    def db_for_read(self, model, **hints):
        """Name the database to read from."""
        return "postgres"

    db_for_write = db_for_read

    def allow_relation(self, *_objects, **_hints):
        """Allow what is in one database."""
        return True


@pytest.fixture(params=["default", pytest.param("postgres", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest, transactional_db: None, settings, child_environment: dict[str, str]) -> str:
    """Run the test on SQLite and on PostgreSQL: beat's own rows are what is looked at."""
    url = f"db://{request.param}"
    settings.DJANGO_TASKS = {"BROKER_URL": url, "RESULT_BACKEND": url}
    child_environment.update(TEST_BROKER_URL=url, TEST_RESULT_BACKEND=url)
    return request.param


@pytest.fixture
def beat_environment(place: str, child_environment: dict[str, str], settings, tmp_path: Path) -> dict[str, str]:
    """A short term; on PostgreSQL, with every row there."""
    configured = {"BROKER_URL": f"db://{place}", "RESULT_BACKEND": f"db://{place}"}
    lines = ["import os", "from tests.settings import *", f"DJANGO_TASKS = {configured!r}"]
    lines.append(f"DJANGO_TASKS['BEAT_TERM'] = float(os.environ.get('TERM_OF_TEST', {TERM}))")
    # How long a statement waits for SQLite's lock, so that a test need not.
    lines.append("DATABASES['default'].setdefault('OPTIONS', {})['timeout'] = 2")
    if place == "postgres":
        settings.DATABASE_ROUTERS = [ROUTER]
        lines.append(f"DATABASE_ROUTERS = [{ROUTER!r}]")
    (tmp_path / "beat_settings.py").write_text("\n".join(lines) + "\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    return {**child_environment, "DJANGO_SETTINGS_MODULE": "beat_settings", "PYTHONPATH": path}


@pytest.fixture
def start_beat(beat_environment: dict[str, str]) -> Iterator[StartBeat]:
    """``start_beat()`` starts a beat that ends with the test."""
    started: list[BeatProcess] = []

    def start(*arguments: str, term: float = TERM) -> BeatProcess:
        beat = BeatProcess({**beat_environment, "TERM_OF_TEST": str(term)}, *arguments)
        started.append(beat)
        return beat

    yield start
    for beat in started:
        beat.clear()


def every_second(name: str = "tick") -> PeriodicTask:
    interval, _ = IntervalSchedule.objects.get_or_create(every=1, period="seconds")
    return PeriodicTask.objects.create(name=name, task="tests.sampleapp.tasks.add", interval=interval, args="[1, 2]")


def leader() -> int | None:
    """The process id of the beat that leads."""
    term = BeatTerm.objects.filter(expires_at__gt=clock.now()).first()
    return None if term is None else int(term.holder.split(":")[1])


def check_runs_and_messages() -> list:
    """Every due time of an entry once, and exactly one message for each; return the due times."""
    runs = list(BeatRun.objects.order_by("due_at").values_list("due_at", "task_id"))
    assert len(set(BeatRun.objects.values_list("entry", "due_at"))) == len(runs)
    assert sorted(task_id for _, task_id in runs) == sorted(Message.objects.values_list("task_id", flat=True))
    return [due for due, _ in runs]


def test_a_killed_leader_is_succeeded_and_nothing_is_sent_twice(start_beat):
    """Three kills in a row: no due time twice, none without its message, no gap much longer than the term."""
    every_second()
    beats = {beat.pid: beat for beat in (start_beat(), start_beat())}
    for beat in beats.values():
        beat.says("records:")
    for kills in range(1, 4):
        before = BeatRun.objects.count()
        wait_until(lambda seen=before: BeatRun.objects.count() >= seen + 2 and leader() in beats, "two more runs")
        victim = leader()
        beats.pop(victim).process.kill()
        if kills < 3:
            successor = start_beat()
            beats[successor.pid] = successor
        wait_until(lambda old=victim: leader() not in {None, old}, "another leader")
    before = BeatRun.objects.count()
    wait_until(lambda: BeatRun.objects.count() >= before + 2, "runs by the last leader")
    for beat in beats.values():
        assert beat.stop() == 0
    due = check_runs_and_messages()
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(due)]
    assert max(gaps) <= TERM + SOON, gaps


def test_a_clean_stop_hands_over_at_once(start_beat):
    """SIGTERM: exit status 0, the term is given up, and the other goes on long before it would have ended."""
    every_second()
    beats = {beat.pid: beat for beat in (start_beat(term=600), start_beat(term=600))}
    wait_until(lambda: BeatRun.objects.count() >= 2 and leader() in beats, "two runs")
    for beat in beats.values():
        beat.says("records:")
    first = leader()
    assert beats[first].stop() == 0
    wait_until(lambda: leader() not in {None, first}, "the other beat leads")
    before = BeatRun.objects.count()
    wait_until(lambda: BeatRun.objects.count() > before, "a run by the other beat")
    assert all(beat.stop() == 0 for beat in beats.values())
    check_runs_and_messages()


def test_two_that_both_lead_send_each_run_once(start_beat):
    """Correctness doesn't hang on the election: with the term's row deleted again and again, both send, and once."""
    every_second("one")
    every_second("two")
    beats = start_beat(), start_beat()

    def both_have_sent():
        BeatTerm.objects.all().delete()
        return BeatRun.objects.count() >= 12 and all("Sent periodic task" in beat.output for beat in beats)

    wait_until(both_have_sent, "twelve runs, some by each beat")
    assert all(beat.stop() == 0 for beat in beats)
    check_runs_and_messages()


def test_an_edit_takes_effect_soon(start_beat):
    """A row that is written, and one that is switched off, while beat runs."""
    start_beat().says("This beat leads")
    every_second()
    wait_until(BeatRun.objects.exists, "a run of the new row", SOON)
    PeriodicTask.objects.update(enabled=False, date_changed=timezone.now())
    PeriodicTasks.update_changed()
    off = clock.now()
    wait_until(lambda: clock.now() - off > timedelta(seconds=3), "three seconds")
    assert BeatRun.objects.filter(due_at__gt=off + timedelta(seconds=1)).count() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_beat_stops_cleanly(start_beat, number):
    """Both signals: exit status 0, no traceback, and no term left behind."""
    beat = start_beat()
    beat.says("This beat leads")
    assert beat.stop(number) == 0
    assert "Traceback" not in beat.output
    assert leader() is None


def test_a_pid_file_keeps_a_second_one_away(start_beat, tmp_path):
    """The refusal names the process; a stale file is replaced, and a clean stop removes it."""
    pidfile = tmp_path / "beat.pid"
    pidfile.write_text("4194300\n")
    first = start_beat("--pidfile", str(pidfile))
    first.says("This beat leads")
    assert pidfile.read_text().strip() == str(first.pid)
    second = start_beat("--pidfile", str(pidfile))
    second.says(f"process {first.pid}")
    assert second.process.wait(SOON) == 1
    assert first.stop() == 0
    assert not pidfile.exists()


def test_beat_writes_where_it_is_told(start_beat, tmp_path):
    """-f takes the log; the banner stays on the terminal."""
    logfile = tmp_path / "beat.log"
    beat = start_beat("-f", str(logfile), "--max-interval", "0.5")
    wait_until(lambda: logfile.exists() and "This beat leads" in logfile.read_text(), "the log file")
    beat.says("at least every 0.5 s")


def test_a_worker_runs_beat_inside(start_worker, place, settings, child_environment):
    """``runworker -B``: what beat sends, the same process tree runs."""
    if place != "default":
        pytest.skip("one database is enough: beat itself is tested on both")
    interval = IntervalSchedule.objects.create(every=1, period="seconds")
    PeriodicTask.objects.create(name="inside", task="tests.sampleapp.tasks.record", interval=interval, args='["from beat"]')
    worker = start_worker("-B", "-c", "1")
    wait_until(lambda: Effect.objects.filter(key="from beat").count() >= 2, f"two effects; the worker said:\n{worker.output}")
    worker.signal(signal.SIGTERM)
    assert worker.ends() == 0, worker.output
    assert leader() is None
    assert TaskResult.objects.filter(periodic_task_name="inside", status="SUCCESS").count() >= 2


def test_beat_outlives_a_database_that_drops_it(start_beat, place):
    """Its connection is cut while it works: it says so, connects again, and goes on with the schedule."""
    if place != "postgres":
        pytest.skip("a file can't drop anyone")
    every_second()
    beat = start_beat()
    wait_until(lambda: BeatRun.objects.count() >= 2, "two runs")
    with connections["postgres"].cursor() as cursor:
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    beat.says("Beat can't go on")
    beat.says("Beat goes on after")
    before = BeatRun.objects.count()
    wait_until(lambda: BeatRun.objects.count() >= before + 2, "two more runs")
    assert beat.stop() == 0
    check_runs_and_messages()
    assert "Traceback" not in beat.output


def test_beat_outlives_a_locked_file(start_beat, place):
    """Somebody keeps SQLite's write lock for longer than beat waits for it: no run is lost that coalescing doesn't cover."""
    if place != "default":
        pytest.skip("only SQLite has one lock for all")
    every_second()
    beat = start_beat()
    wait_until(lambda: BeatRun.objects.count() >= 2, "two runs")
    with connections["default"].cursor() as cursor:
        cursor.execute("BEGIN IMMEDIATE")
        beat.says("database is locked")
        cursor.execute("ROLLBACK")
    beat.says("Beat goes on after")
    before = BeatRun.objects.count()
    wait_until(lambda: BeatRun.objects.count() >= before + 2, "two more runs")
    assert beat.stop() == 0
    check_runs_and_messages()
