"""Publishing and transactions, for a broker that can't be part of them."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import TestCase

from django_tasks import brokers, shared_task
from django_tasks.brokers.memory import MemoryBroker
from django_tasks.exceptions import OperationalError

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])


@shared_task(name="tests.published")
def published(number=0):
    """Return the number."""
    return number


@pytest.fixture
def broker(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[MemoryBroker]:
    settings.DJANGO_TASKS = {"BROKER_URL": "memory://publishing"}
    broker = brokers.current()
    assert isinstance(broker, MemoryBroker)
    yield broker
    broker.clear()


def sent(broker: MemoryBroker) -> int:
    return broker.size("default")


def test_a_call_leaves_after_the_commit(broker, alias):
    """In the order of the calls and of other hooks; never after a rollback."""
    seen: list[int] = []
    with transaction.atomic(using=alias):
        published.delay(1)
        transaction.on_commit(lambda: seen.append(sent(broker)), using=alias)
        published.delay(2)
        assert sent(broker) == 0
    assert seen == [1]
    assert sent(broker) == 2
    with transaction.atomic(using=alias):
        published.delay(3)
        transaction.set_rollback(True, using=alias)
    assert sent(broker) == 2


def test_a_broker_that_is_down_at_the_commit(broker, alias, monkeypatch):
    """The error comes out of the block whose rows are committed; hooks after it are not called, as Django has it."""

    def fail(envelopes: Any) -> None:
        raise OperationalError("the broker is down")

    monkeypatch.setattr(broker, "publish", fail)
    called: list[str] = []

    def block() -> None:
        with transaction.atomic(using=alias):
            transaction.on_commit(lambda: called.append("before"), using=alias)
            published.apply_async(retry=False)
            transaction.on_commit(lambda: called.append("after"), using=alias)

    with pytest.raises(OperationalError, match="down"):
        block()
    assert called == ["before"]
    assert not connections[alias].in_atomic_block


def test_two_databases(broker):
    """A call waits for all transactions that are open, and for the default one first."""
    others = [name for name in connections if name != "default"]
    if not others:
        pytest.skip("only one database answers here")
    with transaction.atomic(using=others[0]):
        with transaction.atomic():
            published.delay()
        assert sent(broker) == 0
    assert sent(broker) == 1


class HooksOfATest(TestCase):
    """Django's own way of testing commit hooks."""

    def test_hooks_are_run_by_hand(self) -> None:
        """The hook sends, although the test's own transaction is open and stays so."""
        with self.settings(DJANGO_TASKS={"BROKER_URL": "memory://publishing"}):
            broker = brokers.current()
            assert isinstance(broker, MemoryBroker)
            with self.captureOnCommitCallbacks(execute=True) as hooks:
                published.delay()
            assert len(hooks) == 1
            assert sent(broker) == 1
            broker.clear()
