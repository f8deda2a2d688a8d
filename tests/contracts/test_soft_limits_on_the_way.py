"""A soft time limit that ends while a task talks to a server: it must reach the task, and leave connections that work."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache.backends.locmem import LocMemCache
from django.test import override_settings

from django_tasks import clock, events
from django_tasks.brokers import open_broker
from django_tasks.events import event
from django_tasks.exceptions import SoftTimeLimitExceeded
from django_tasks.result_backends import open_result_backend
from django_tasks.testing.broker_probes import BrokerProbes, envelope, names
from django_tasks.testing.result_probes import meta
from django_tasks.timelimits import soft_limit
from tests import rabbitmq

consuming = BrokerProbes().consuming

#: Seconds of the limit, and after which the task gives up waiting for it.
_LIMIT, _LONG = 0.1, 1.0


class SlowCache(LocMemCache):
    """A cache that one always waits for."""

    def get_many(self, keys: Any, version: int | None = None) -> dict[str, Any]:
        """Take a while."""
        for_long(lambda: None)
        return super().get_many(keys, version)


def for_long(work: Callable[[], object]) -> None:
    until = clock.monotonic() + _LONG
    while clock.monotonic() < until:
        work()


def run_into_the_limit(work: Callable[[], object]) -> None:
    """Do this for longer than the limit, a few times: it ends at another point of the way each time."""
    for _ in range(3):
        with pytest.raises(SoftTimeLimitExceeded), soft_limit(_LIMIT):
            for_long(work)


@pytest.fixture
def quiet(virtual_host: str) -> Iterator[str]:
    with override_settings(DJANGO_TASKS={"BROKER_URL": virtual_host}):
        yield virtual_host
        events.reset()
        rabbitmq.delete_queues(virtual_host, {"limits"})


@pytest.mark.rabbitmq
@pytest.mark.django_db(transaction=True)
def test_publishing_to_rabbitmq(quiet):
    """Whoever publishes all the time must hear of the limit, and can go on publishing."""
    broker = open_broker(quiet)
    run_into_the_limit(lambda: broker.publish([envelope("again", queue="limits")]))
    broker.purge("limits")
    broker.publish([envelope("last", queue="limits")])
    with consuming(broker, "limits") as consumer:
        assert "last" in names(consumer.receive(500, 5))
    broker.close()


@pytest.mark.rabbitmq
def test_events_to_rabbitmq(quiet):
    """So must who sends events."""
    channel = events.open_channel(quiet)
    run_into_the_limit(lambda: channel.send([event("task-halfway", "me", uuid="1")]))
    channel.close()


# A file that was just opened when the limit came is closed by the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.django_db(transaction=True)
def test_publishing_by_other_transports(tmp_path: Path):
    """So must who publishes by a transport that kombu emulates."""
    folders = {"data_folder_in": str(tmp_path), "data_folder_out": str(tmp_path), "control_folder": str(tmp_path / "control")}
    with override_settings(DJANGO_TASKS={"BROKER_TRANSPORT_OPTIONS": folders}):
        broker = open_broker("filesystem://")
        run_into_the_limit(lambda: broker.publish([envelope("again", queue="limits"), envelope("more", queue="limits")]))
        broker.close()


def test_storing_a_state():
    """So must who stores a state of the task's own."""
    caches = {"slow": {"BACKEND": f"{__name__}.SlowCache"}, "default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}
    with override_settings(CACHES=caches, DJANGO_TASKS={}):
        backend = open_result_backend("cache://slow")
        run_into_the_limit(lambda: backend.store([meta(status="COUNTING", value={"n": 1})]))
        backend.close()
