"""What ``retry()`` may be told for the next try: nothing of it is lost on the way."""

import pytest

from django_tasks.registry import registry
from django_tasks.tasks import shared_task
from django_tasks.testing import in_memory


@pytest.fixture(autouse=True)
def _tasks(own_registry):
    @shared_task(name="retried.once", bind=True)
    def once(self, options):
        if not self.request.retries:
            raise self.retry(countdown=0, **options)


def retried(options, **first):
    """Return the message of the second try."""
    with in_memory() as queue:
        registry["retried.once"].apply_async((options,), **first)
        outcome = queue.run_pending()[-1]
    assert outcome.state == "SUCCESS"
    return outcome.request.message


@pytest.mark.parametrize(
    "options",
    [
        {"reply_to": "me"},
        {"shadow": "another name"},
        {"priority": 3},
        {"headers": {"a": 1}},
        {"exchange": "e", "routing_key": "k"},
        {"ignore_result": True},
        {"time_limit": 9, "soft_time_limit": 8},
        {"argsrepr": "(hidden)"},
    ],
)
def test_options_of_the_next_try(options):
    """Each is what its message says."""
    message = retried(options)
    assert {name: getattr(message, name) for name in options} == options


def test_stamps_join_those_that_are_there():
    """A new one beside the old, and a new value for an old name."""
    message = retried(
        {"stamped_headers": ["tenant", "try"], "tenant": "b", "try": 2}, stamped_headers=["tenant", "order"], tenant="a", order=7
    )
    assert message.stamps == {"tenant": "b", "order": 7, "try": 2}
    assert message.stamped_headers == ["order", "tenant", "try"]


def test_arguments_that_are_hidden_once_are_hidden_from_then_on():
    """Those that the caller hides, and those that the retry hides, too."""
    message = retried({"argsrepr": "(card)"}, kwargsrepr="{secrets}")
    assert (message.argsrepr, message.kwargsrepr) == ("(card)", "{secrets}")
    assert set(message.headers["x-hidden-arguments"]) == {"args", "kwargs"}
