"""The public errors."""

import pickle

import pytest

from django_tasks import exceptions
from django_tasks.exceptions import NotRegistered, QueueNotFound, Reject, Retry, SoftTimeLimitExceeded, TaskError

CLASSES = [each for each in vars(exceptions).values() if isinstance(each, type) and issubclass(each, BaseException)]


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_no_error_is_mute(cls):
    """Every class has a docstring, and an instance without arguments says something."""
    assert cls.__doc__
    if issubclass(cls, TaskError):
        assert str(cls())


def test_the_docstring_is_the_message_where_none_is_given():
    """An error with a message shows it, one without shows what its class means."""
    assert str(exceptions.OperationalError("gone")) == "gone"
    assert "broker" in str(exceptions.OperationalError())


def test_timeouts_are_caught_as_pythons():
    """Code that expects Python's TimeoutError catches ours."""
    with pytest.raises(TimeoutError):
        raise exceptions.TimeoutError


def test_look_ups_that_fail_are_key_errors_without_quotes():
    """NotRegistered and QueueNotFound are KeyErrors that read as sentences."""
    assert isinstance(NotRegistered("a.b"), KeyError)
    assert str(NotRegistered("a.b")) == "Task of kind 'a.b' never registered"
    assert str(QueueNotFound("no queue 'x'")) == "no queue 'x'"


def test_a_retry_says_when_and_why():
    """The text of a Retry names the delay and the error behind it; a message of its own comes first."""
    retry = Retry(exc=ValueError("bad"), when=3)
    assert str(retry) == "Retry in 3s: ValueError('bad')"
    assert str(Retry("later")) == "later"
    assert retry.exc.args == ("bad",)


def test_a_reject_says_whether_it_is_requeued():
    """The reason and the fate are in the text."""
    assert str(Reject("broken", requeue=True)) == "reject requeue=True: broken"


def test_a_soft_limit_is_an_ordinary_exception():
    """``except Exception`` in a task catches the soft limit, and it survives pickling."""
    assert issubclass(SoftTimeLimitExceeded, Exception)
    assert pickle.loads(pickle.dumps(SoftTimeLimitExceeded(3))).args == (3,)
