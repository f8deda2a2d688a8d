"""Soft time limits."""

import os
import signal
import sys
import threading
import time

import pytest

from django_tasks import Task, shared_task, timelimits
from django_tasks.exceptions import SoftTimeLimitExceeded
from django_tasks.registry import registry
from django_tasks.timelimits import soft_limit


def in_main(function):
    return function()


def in_thread(function):
    outcome = []

    def run():
        try:
            outcome.append((function(), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    value, error = outcome[0]
    if error is not None:
        raise error
    return value


@pytest.fixture(params=[in_main, in_thread], ids=["main thread", "other thread"])
def run(request):
    return request.param


def spin(seconds):
    """Execute Python for so long: an exception can be raised anywhere in it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def test_a_block_that_runs_too_long_is_interrupted(run):
    """The exception comes soon after the limit."""

    def block():
        start = time.monotonic()
        with pytest.raises(SoftTimeLimitExceeded), soft_limit(0.05):
            spin(10)
        return time.monotonic() - start

    assert 0.04 < run(block) < 9


def test_a_wait_in_the_main_thread_is_interrupted():
    """The alarm ends a sleep, too."""
    start = time.monotonic()
    with pytest.raises(SoftTimeLimitExceeded), soft_limit(0.05):
        time.sleep(10)
    assert time.monotonic() - start < 9


def test_a_block_that_ends_in_time_is_left_alone(run):
    """Nothing is raised in it, nor after it when the limit would have come."""

    def block():
        with soft_limit(0.05):
            value = 42
        spin(0.1)
        return value

    assert run(block) == 42


def test_no_seconds_are_no_limit(run):
    """None and zero set nothing; nor does what no timer can be set to."""
    before = signal.getsignal(signal.SIGALRM)

    def block():
        for seconds in (None, 0, 9.3e9, 1e300):
            with soft_limit(seconds):
                assert signal.getsignal(signal.SIGALRM) is before
        return True

    assert run(block)


def test_the_task_may_catch_it_and_clean_up(run):
    """After the exception the block is not disturbed again."""

    def block():
        with soft_limit(0.03):
            try:
                spin(10)
            except SoftTimeLimitExceeded:
                spin(0.1)
                return "cleaned up"

    assert run(block) == "cleaned up"


def test_the_inner_limit_fires_and_the_outer_goes_on(run):
    """Each limit is raised once, in its own block."""

    def block():
        fired = []
        with pytest.raises(SoftTimeLimitExceeded), soft_limit(0.2):  # noqa: PT012  the blocks are what is tested
            with soft_limit(30):
                try:
                    with soft_limit(0.03):
                        spin(10)
                except SoftTimeLimitExceeded:
                    fired.append("inner")
            spin(10)
        return fired

    assert run(block) == ["inner"]


def test_an_outer_limit_fires_inside_an_inner_block(run):
    """The shorter limit counts, wherever it was set, and the longer one is gone with its block."""

    def block():
        with pytest.raises(SoftTimeLimitExceeded), soft_limit(0.05), soft_limit(30):
            spin(10)
        spin(0.05)
        return True

    assert run(block)
    assert not timelimits._watch._limits


def test_the_block_s_own_exception_passes(run):
    """Errors of the task are its own, and the limit ends with it."""

    def block():
        with soft_limit(0.05):
            raise KeyError("mine")

    with pytest.raises(KeyError):
        run(block)
    spin(0.1)


def test_a_timer_of_somebody_else_is_put_back():
    """A handler and a timer that were there go on after the block."""
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(time.monotonic()))
    start = time.monotonic()
    kept = signal.setitimer(signal.ITIMER_REAL, 0.15)
    try:
        with pytest.raises(SoftTimeLimitExceeded), soft_limit(0.03):
            spin(10)
        deadline = time.monotonic() + 10
        while not rung and time.monotonic() < deadline:
            spin(0.01)
        assert 0.14 <= rung[0] - start < 5
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *kept)


def test_a_timer_that_falls_due_meanwhile_rings_after_the_block():
    """It is late, not lost."""
    rung = []
    before = signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
    kept = signal.setitimer(signal.ITIMER_REAL, 0.02)
    try:
        with soft_limit(30):
            spin(0.05)
            assert not rung
        deadline = time.monotonic() + 10
        while not rung and time.monotonic() < deadline:
            spin(0.01)
        assert rung == [1]
    finally:
        signal.signal(signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, *kept)


def hammer(rounds, length):
    """Let limits fire around the end of their blocks, and count what is raised outside."""
    leaked = hits = number = 0
    deadline = time.monotonic() + 60
    try:
        # On a busy machine the timer thread comes late; go on until some limits have fired.
        while (number < rounds or not hits) and time.monotonic() < deadline:
            number += 1
            try:
                with soft_limit(length), soft_limit(length * 1.3):
                    spin(length * (0.8 + number % 40 / 80))
            except SoftTimeLimitExceeded:
                hits += 1
            try:
                for _ in range(50):
                    pass
            except SoftTimeLimitExceeded:
                leaked += 1
    except SoftTimeLimitExceeded:
        leaked += 1
    return hits, leaked


def test_nothing_is_raised_after_the_block(run):
    """However close the limit is to the end of the block, the exception comes inside or not at all."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        hits, leaked = run(lambda: hammer(800, 0.0004))
    finally:
        sys.setswitchinterval(interval)
    assert leaked == 0
    assert hits > 0
    assert not timelimits._watch._limits


def test_many_threads_have_their_own_limits():
    """A limit strikes the thread that set it and no other."""
    outcomes = {}

    def work(number):
        try:
            with soft_limit(0.05 if number % 2 else 30):
                spin(10 if number % 2 else 0.3)
            outcomes[number] = "done"
        except SoftTimeLimitExceeded:
            outcomes[number] = "limited"

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert outcomes == {0: "done", 1: "limited", 2: "done", 3: "limited"}


def test_limits_work_in_a_forked_process():
    """The child has no timer thread of its parent's, so it starts its own."""
    in_thread(lambda: hammer(1, 0.001))  # the parent has a timer thread now
    import warnings

    with warnings.catch_warnings():
        # Python 3.12 warns of a fork among threads, which is what a worker may have to do.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            in_thread(_expect_limit)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def _expect_limit():
    with pytest.raises(SoftTimeLimitExceeded), soft_limit(0.05):
        spin(10)


@pytest.mark.parametrize("name", ["on_failure", "after_return", "on_retry"])
def test_a_limit_around_an_eager_task_reaches_who_runs_it(run, name):
    """It is not kept by a handler of that task that runs when the limit ends."""

    class Slow(Task):
        def handle(self, *arguments):
            spin(10)

    setattr(Slow, name, Slow.handle)

    @shared_task(name="tests.timelimits.eager", base=Slow, bind=True, default_retry_delay=0)
    def eager(self):
        if name == "on_retry":
            raise self.retry()
        if name == "on_failure":
            raise ValueError("on purpose")

    def block():
        with pytest.raises(SoftTimeLimitExceeded), soft_limit(0.05):
            eager.apply().get()

    try:
        run(block)
    finally:
        registry.unregister("tests.timelimits.eager")


def test_a_block_that_uses_the_timer_itself_keeps_its_limit() -> None:
    """There is one timer: after the block has had it, another thread sends the alarm that it has switched off."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.01):
            timelimits.remind()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        with pytest.raises(SoftTimeLimitExceeded), soft_limit(0.2):  # noqa: PT012  what must raise is the last wait
            ours = signal.signal(signal.SIGALRM, lambda *_: None)
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            signal.pause()
            # Not while the block's own handler stands.
            while timelimits.seconds_left():
                time.sleep(0.01)
            time.sleep(0.1)
            signal.signal(signal.SIGALRM, ours)
            threading.Event().wait(20)
        assert timelimits.seconds_left() is None
    finally:
        over.set()
        thread.join(20)
        signal.signal(signal.SIGALRM, before)
