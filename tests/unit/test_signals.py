"""Celery's signals."""

import asyncio
import functools
import gc
import logging
from concurrent.futures import ThreadPoolExecutor

import pytest
from celery import signals as celery_signals
from celery.utils.dispatch import Signal as CelerySignal
from django.dispatch import Signal, receiver

from django_tasks import clock, signals
from django_tasks.exceptions import SoftTimeLimitExceeded
from django_tasks.signals import TaskSignal
from django_tasks.timelimits import soft_limit


class FakeTask:
    def __init__(self, name, function):
        self.name = name
        self.function = function

    def run(self):
        return self.function()


class BoundTask:
    """A task whose run is the function itself, as the registry has them."""

    def __init__(self, name, function):
        self.name = name
        self.run = function


@pytest.fixture
def signal():
    return TaskSignal("probe")


def heard_by(signal, sender):
    return [response for _, response in signal.send(sender)]


def test_every_signal_of_celery_is_there():
    """All of Celery's names but those of eventlet exist, and are Django signals."""
    names = {name for name, value in vars(celery_signals).items() if isinstance(value, CelerySignal) and not name.startswith("eventlet")}
    assert names <= set(signals.SIGNALS)
    assert all(isinstance(getattr(signals, name), Signal) for name in names)


def test_connect_is_a_call_and_a_decorator(signal):
    """A plain call, a bare decorator and a decorator with a sender all connect, and give the function back."""

    def plain(**kwargs):
        return "plain"

    assert signal.connect(plain) is plain

    @signal.connect
    def bare(**kwargs):
        return "bare"

    @signal.connect(sender="a.b")
    def picky(**kwargs):
        return "picky"

    assert bare() == "bare"
    assert picky() == "picky"
    assert heard_by(signal, "a.b") == ["plain", "bare", "picky"]
    assert heard_by(signal, "c.d") == ["plain", "bare"]


def test_djangos_receiver_decorator_works(signal):
    """@receiver(signal, sender=...) connects, too."""

    @receiver(signal, sender="a.b")
    def picky(**kwargs):
        return 1

    assert heard_by(signal, "a.b") == [1]
    assert heard_by(signal, "c") == []


def test_receivers_get_sender_signal_and_arguments(signal):
    """What is sent arrives under Celery's names."""
    got = []
    signal.connect(lambda **kwargs: got.append(kwargs))
    signal.send("who", task_id="1")
    assert got == [{"sender": "who", "signal": signal, "task_id": "1"}]


def test_receivers_are_kept(signal):
    """A function that nobody else holds is still called after a collection."""
    signal.connect(lambda **kwargs: "still here")
    gc.collect()
    assert heard_by(signal, None) == ["still here"]


def test_weak_receivers_are_forgotten(signal):
    """weak=True lets functions and methods go with their owners, and receivers is empty again."""

    class Owner:
        def hear(self, **kwargs):
            return "method"

    owner = Owner()

    def function(**kwargs):
        return "function"

    signal.connect(owner.hear, weak=True)
    signal.connect(function, weak=True)
    assert heard_by(signal, None) == ["method", "function"]
    del owner, function
    gc.collect()
    assert heard_by(signal, None) == []
    assert not signal.receivers


@pytest.mark.parametrize("choose", [lambda task, function: task, lambda task, function: function, lambda task, function: task.name])
def test_a_filter_matches_the_task(signal, choose):
    """The task object, its function and its name all mean the task that is sent."""

    def function():
        """Stand for what was decorated."""

    task = BoundTask("a.b", function)
    signal.connect(lambda **kwargs: 1, sender=choose(task, function))
    assert heard_by(signal, task) == [1]
    assert heard_by(signal, BoundTask("a.c", lambda: None)) == []
    assert heard_by(signal, None) == []


def test_a_filter_by_task_matches_its_name_as_sender(signal):
    """before_task_publish is sent by name, and a receiver for the task object hears it."""
    task = FakeTask("a.b", lambda: None)
    signal.connect(lambda **kwargs: 1, sender=task)
    assert heard_by(signal, "a.b") == [1]
    assert signal.has_listeners("a.b")
    assert not signal.has_listeners("a.c")


def test_a_wrapped_function_is_the_same_sender(signal):
    """A run that wraps the function, as autoretry does, is still that function's."""

    def function():
        """Stand for what was decorated."""

    @functools.wraps(function)
    def wrapper():
        return function()

    signal.connect(lambda **kwargs: 1, sender=function)
    assert heard_by(signal, BoundTask("a.b", wrapper)) == [1]


def test_any_object_may_be_a_sender(signal):
    """A worker, or an object that can't be hashed, is matched by identity."""
    sender, other = [], []
    signal.connect(lambda **kwargs: 1, sender=sender)
    assert heard_by(signal, sender) == [1]
    assert heard_by(signal, other) == []


def test_an_error_in_a_receiver_is_logged_and_disturbs_nobody(signal, caplog):
    """The others are called, the sender goes on, and the log names the receiver."""

    def broken(**kwargs):
        raise ValueError("oops")

    signal.connect(broken)
    signal.connect(lambda **kwargs: "next")
    with caplog.at_level(logging.ERROR):
        responses = signal.send("x")
    assert isinstance(responses[0][1], ValueError)
    assert responses[1][1] == "next"
    assert "broken" in caplog.text
    assert "probe" in caplog.text
    assert "oops" in caplog.text


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("in_thread", [False, True])
def test_a_soft_time_limit_reaches_the_task(signal, is_async, in_thread):
    """One that ends while a receiver runs is the task's, not the receiver's."""

    def slow(**kwargs):
        until = clock.monotonic() + 10
        while clock.monotonic() < until:
            pass

    async def slow_async(**kwargs):
        slow()

    def block():
        with pytest.raises(SoftTimeLimitExceeded), soft_limit(0.05):
            signal.send("x")
        return True

    signal.connect(slow_async if is_async else slow)
    if not in_thread:
        assert block()
        return
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(block).result(30)


def test_a_limit_of_others_is_an_error_like_any(signal, caplog):
    """A receiver of task_failure that raises what it was given, a limit that has ended, disturbs nobody."""

    def raises(exception, **kwargs):
        raise exception

    signal.connect(raises)
    with soft_limit(30):
        pass
    with ThreadPoolExecutor(1) as threads:
        responses = threads.submit(signal.send, "x", exception=SoftTimeLimitExceeded()).result(30)
    responses += signal.send("x", exception=SoftTimeLimitExceeded())
    assert [type(response) for _, response in responses] == [SoftTimeLimitExceeded] * 2
    assert caplog.text.count("raised; the others are called all the same") == 2


def test_a_partial_that_raises_has_a_name(signal, caplog):
    """Receivers without a name of their own are named by what they wrap."""

    def broken(number, **kwargs):
        raise ValueError(number)

    signal.connect(functools.partial(broken, 7))
    signal.send("x")
    assert "broken" in caplog.text


def test_connecting_twice_is_connecting_once(signal):
    """The same receiver, method or dispatch_uid for the same sender counts once."""

    class Owner:
        def hear(self, **kwargs):
            return "method"

    owner = Owner()
    for _ in range(2):
        signal.connect(owner.hear)
        signal.connect(lambda **kwargs: "uid", dispatch_uid="one")
    signal.connect(owner.hear, sender="a.b")
    assert heard_by(signal, "x") == ["method", "uid"]
    assert heard_by(signal, "a.b") == ["method", "uid", "method"]


def test_disconnect_takes_what_connect_took(signal):
    """Receiver and sender, or the dispatch_uid, name what is to go; the answer says whether it was there."""

    def hear(**kwargs):
        return 1

    signal.connect(hear, sender="a.b")
    assert not signal.disconnect(hear)
    assert signal.disconnect(hear, sender="a.b")
    assert not signal.disconnect(hear, sender="a.b")
    signal.connect(hear, dispatch_uid="u")
    assert signal.disconnect(dispatch_uid="u")
    assert not signal.receivers


def test_a_receiver_must_take_keywords(signal):
    """A function without **kwargs, and what is no function, are refused by name."""

    def strict(sender):
        return sender

    with pytest.raises(ValueError, match=r"strict.*\*\*kwargs"):
        signal.connect(strict)
    with pytest.raises(TypeError, match="sender="):
        signal.connect("a.b")


def test_async_receivers_are_awaited_everywhere(signal):
    """A coroutine function is finished by send, with and without a running loop, and by asend."""

    @signal.connect
    async def hear(**kwargs):
        await asyncio.sleep(0)
        return "async"

    @signal.connect
    async def broken(**kwargs):
        raise ValueError("oops")

    signal.connect(lambda **kwargs: "sync")

    async def inside():
        return signal.send("x"), await signal.asend("x")

    results = [signal.send("x"), *asyncio.run(inside())]
    for responses in results:
        first, second, third = (response for _, response in responses)
        assert (first, third) == ("async", "sync")
        assert isinstance(second, ValueError)


def test_a_receiver_may_disconnect_itself_while_it_is_called(signal):
    """A send that is under way goes on with the receivers it began with."""

    def once(**kwargs):
        signal.disconnect(once)
        return "once"

    signal.connect(once)
    signal.connect(lambda **kwargs: "other")
    assert heard_by(signal, None) == ["once", "other"]
    assert heard_by(signal, None) == ["other"]
