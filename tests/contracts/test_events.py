"""The contract of event channels, kept by every channel of this package."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import LazySettings

from django_tasks.events import open_channel
from django_tasks.events.channel import EventChannel
from django_tasks.events.database import DatabaseEvents
from django_tasks.events.memory import MemoryEvents
from tests.services import SERVICES

# Before it is imported, so that its assertions say what they saw.
pytest.register_assert_rewrite("django_tasks.testing.event_contract")

from django_tasks.testing.event_contract import EventContract, heard, task_event  # noqa: E402


class TestMemoryEvents(EventContract):
    CHILD_IS_HEARD = False

    @pytest.fixture
    def channel(self) -> EventChannel:
        return MemoryEvents("contract")


class DatabaseContract(EventContract):
    CHILD_IS_HEARD = False


@pytest.mark.django_db(transaction=True)
class TestSQLite(DatabaseContract):
    @pytest.fixture
    def channel(self) -> EventChannel:
        return DatabaseEvents("default")


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True, databases=["default", "postgres"])
class TestPostgreSQL(DatabaseContract):
    @pytest.fixture
    def channel(self) -> EventChannel:
        return DatabaseEvents("postgres")


@pytest.mark.mysql
@pytest.mark.django_db(transaction=True, databases=["default", "mysql"])
class TestMySQL(DatabaseContract):
    @pytest.fixture
    def channel(self) -> EventChannel:
        return DatabaseEvents("mysql")


@pytest.mark.redis
class TestRedis(EventContract):
    @pytest.fixture(params=["patterns", "plain"])
    def channel(self, request: pytest.FixtureRequest, settings: LazySettings) -> Iterator[EventChannel]:
        options = {"global_keyprefix": f"events-{uuid.uuid4().hex}:", "fanout_patterns": request.param == "patterns"}
        settings.DJANGO_TASKS = {"BROKER_TRANSPORT_OPTIONS": options}
        channel = open_channel(SERVICES["redis"].url.rpartition("/")[0] + "/3")
        yield channel
        channel.close()


@pytest.mark.rabbitmq
class TestRabbitMQ(EventContract):
    @pytest.fixture
    def channel(self, virtual_host: str) -> Iterator[EventChannel]:
        channel = open_channel(virtual_host)
        yield channel
        channel.close()


class TestOtherTransports(EventContract):
    """Of kombu's other transports with a fanout, the one that needs no server."""

    MANY = 300

    @pytest.fixture
    def channel(self, tmp_path: Path, settings: LazySettings) -> Iterator[EventChannel]:
        folders = {name: tmp_path / name for name in ("data", "control")}
        for folder in folders.values():
            folder.mkdir()
        options = {"data_folder_in": folders["data"], "data_folder_out": folders["data"], "control_folder": folders["control"]}
        settings.DJANGO_TASKS = {"BROKER_TRANSPORT_OPTIONS": {name: str(folder) for name, folder in options.items()}}
        channel = open_channel("filesystem://")
        yield channel
        channel.close()

    def test_order_is_kept(self, channel: EventChannel) -> None:
        """Its files are read in any order; within a batch order is kept."""
        with channel.listen("task.#") as receiver:
            channel.send([task_event("started", number) for number in range(8)])
            assert [one["uuid"] for one in heard(receiver, 8)] == [f"id-{number}" for number in range(8)]
