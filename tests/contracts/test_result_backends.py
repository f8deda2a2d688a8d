"""The contract of result backends, kept by every backend of this package."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, ClassVar

import pytest
from django.db import connections

from django_tasks.messages import new_id
from django_tasks.result_backends import open_result_backend
from django_tasks.result_backends.backend import ResultBackend
from django_tasks.result_backends.cache import CacheResultBackend
from django_tasks.result_backends.database import DatabaseResultBackend
from django_tasks.result_backends.memory import MemoryResultBackend
from django_tasks.result_backends.rpc import RpcResultBackend
from django_tasks.urls import parse
from tests.services import SERVICES

# Before it is imported, so that its assertions say what they saw.
pytest.register_assert_rewrite(
    *(f"django_tasks.testing.{name}" for name in ("result_backend_contract", "chord_contract", "chord_batch_contract"))
)

from django_tasks.testing.chord_batch_contract import ChordBatchContract  # noqa: E402
from django_tasks.testing.chord_contract import ChordContract  # noqa: E402
from django_tasks.testing.result_backend_contract import ResultBackendContract  # noqa: E402


class OnADatabase(ResultBackendContract):
    def in_thread(self, work: Callable[[], None]) -> None:
        try:
            work()
        finally:
            connections.close_all()


class TestMemory(ResultBackendContract):
    @pytest.fixture
    def backend(self) -> Iterator[ResultBackend]:
        backend = MemoryResultBackend("contract")
        yield backend
        backend.clear()


class TestCache(ResultBackendContract):
    EXACT = False

    @pytest.fixture
    def backend(self, settings) -> ResultBackend:
        place = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "contract", "OPTIONS": {"MAX_ENTRIES": 10_000}}
        settings.CACHES = {"default": place}
        return CacheResultBackend()


@pytest.mark.redis
class TestCacheInRedis(ResultBackendContract):
    EXACT = False

    @pytest.fixture
    def backend(self, settings) -> Iterator[ResultBackend]:
        from django.core.cache import caches

        from tests.services import SERVICES

        place = {
            "BACKEND": "django.core.cache.backends.redis.RedisCache",
            "LOCATION": SERVICES["redis"].url,
            "KEY_PREFIX": "contract",
            "TIMEOUT": 60,
        }
        settings.CACHES = {"default": place}
        settings.DJANGO_TASKS = {"RESULT_EXPIRES": 60}
        yield CacheResultBackend()
        caches["default"].close()


@pytest.mark.redis
class TestRedis(ResultBackendContract):
    EXPIRES = False

    @pytest.fixture
    def backend(self, settings) -> Iterator[ResultBackend]:
        from tests.services import SERVICES

        settings.DJANGO_TASKS = {
            "RESULT_BACKEND": SERVICES["redis"].url.rpartition("/")[0] + "/2",
            "RESULT_EXPIRES": 60,
            "RESULT_BACKEND_TRANSPORT_OPTIONS": {"global_keyprefix": f"contract-{new_id()}:"},
        }
        backend = open_result_backend(settings.DJANGO_TASKS["RESULT_BACKEND"])
        yield backend
        backend.close()


@pytest.mark.django_db(transaction=True)
class TestSQLite(OnADatabase):
    @pytest.fixture
    def backend(self) -> ResultBackend:
        with connections["default"].cursor() as cursor:
            cursor.execute("PRAGMA journal_mode=WAL")
        return DatabaseResultBackend("default")


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True, databases=["default", "postgres"])
class TestPostgreSQL(OnADatabase):
    @pytest.fixture
    def backend(self) -> ResultBackend:
        return DatabaseResultBackend("postgres")


@pytest.mark.mysql
@pytest.mark.django_db(transaction=True, databases=["default", "mysql"])
class TestMySQL(OnADatabase):
    @pytest.fixture
    def backend(self) -> ResultBackend:
        return DatabaseResultBackend("mysql")


class InCelerysStore(OnADatabase):
    """Over one of Celery's backends; chords are counted in the database, results deleted by Celery's own clean-up."""

    EXACT = False
    URL = ""
    SETTINGS: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def backend(self, settings, tmp_path) -> Iterator[ResultBackend]:
        with connections["default"].cursor() as cursor:
            cursor.execute("PRAGMA journal_mode=WAL")
        settings.DJANGO_TASKS = self.SETTINGS
        backend = open_result_backend(self.URL.format(path=tmp_path))
        yield backend
        backend.close()


class ToItself(ResultBackendContract):
    """Results as messages: sent and read by one process. Chords and groups need a store."""

    EXACT = False
    EXPIRES = False
    URL = ""
    test_groups = test_many_groups = None
    locals().update(dict.fromkeys(name for name in (*vars(ChordContract), *vars(ChordBatchContract)) if name.startswith("test_")))

    @pytest.fixture
    def backend(self, settings, monkeypatch) -> Iterator[ResultBackend]:
        settings.DJANGO_TASKS = {"BROKER_URL": self.URL}
        backend = RpcResultBackend(parse("rpc://"))
        send = backend.store
        monkeypatch.setattr(backend, "store", lambda metas: send([replace(meta, reply_to=backend.reply_to) for meta in metas]))
        yield backend
        backend.close()


@pytest.mark.rabbitmq
class TestRpcOverRabbitMQ(ToItself):
    URL = SERVICES["rabbitmq"].url


@pytest.mark.redis
class TestRpcOverRedis(ToItself):
    URL = f"{SERVICES['redis'].url.rpartition('/')[0]}/3"


@pytest.mark.django_db(transaction=True)
class TestFiles(InCelerysStore):
    URL = "file://{path}"


@pytest.mark.needs("sqlalchemy")
@pytest.mark.django_db(transaction=True)
class TestSQLAlchemy(InCelerysStore):
    URL = "db+sqlite:///{path}/results.sqlite"

    def test_everything_comes_back(self, backend: ResultBackend, monkeypatch) -> None:  # type: ignore[override]
        """For the time of the end Celery's class looks at the clock itself."""
        monkeypatch.setattr("celery.app.base.Celery.now", lambda app: datetime(2026, 11, 21, 3, 4, 5, 678901, tzinfo=UTC))
        super().test_everything_comes_back(backend)


@pytest.mark.django_db(transaction=True)
class TestCelerysCache(InCelerysStore):
    URL = "cache+memory://"


@pytest.fixture(scope="module")
def amazon() -> Iterator[str]:
    """Amazon's services on this machine: the address of a server of moto."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.mark.slow
@pytest.mark.needs("moto")
@pytest.mark.django_db(transaction=True)
class TestS3(InCelerysStore):
    # 3,600 requests of ten milliseconds each: nothing that the other tests don't show.
    test_many_at_once = None

    @pytest.fixture
    def backend(self, settings, amazon) -> Iterator[ResultBackend]:
        import boto3

        login = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        boto3.resource("s3", endpoint_url=amazon, **login).create_bucket(Bucket="results")
        settings.DJANGO_TASKS = {
            "S3_BUCKET": "results",
            "S3_ENDPOINT_URL": amazon,
            "S3_ACCESS_KEY_ID": "key",
            "S3_SECRET_ACCESS_KEY": "secret",
            "S3_REGION": "us-east-1",
        }
        backend = open_result_backend("s3://")
        yield backend
        backend.close()


@pytest.mark.slow
@pytest.mark.needs("moto")
@pytest.mark.django_db(transaction=True)
class TestDynamoDB(InCelerysStore):
    test_many_at_once = None

    @pytest.fixture
    def backend(self, amazon) -> Iterator[ResultBackend]:
        backend = open_result_backend(f"dynamodb://key:secret@127.0.0.1:{amazon.rpartition(':')[2]}/results")
        yield backend
        backend.close()
