"""The contract of result backends, kept by every backend of this package."""

from collections.abc import Callable, Iterator

import pytest
from django.db import connections

from django_tasks.messages import new_id
from django_tasks.result_backends import open_result_backend
from django_tasks.result_backends.backend import ResultBackend
from django_tasks.result_backends.cache import CacheResultBackend
from django_tasks.result_backends.database import DatabaseResultBackend
from django_tasks.result_backends.memory import MemoryResultBackend

# Before it is imported, so that its assertions say what they saw.
pytest.register_assert_rewrite("django_tasks.testing.result_backend_contract", "django_tasks.testing.chord_contract")

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
    EXPIRES = False

    @pytest.fixture
    def backend(self, settings) -> ResultBackend:
        place = {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "contract", "OPTIONS": {"MAX_ENTRIES": 10_000}}
        settings.CACHES = {"default": place}
        return CacheResultBackend()


@pytest.mark.redis
class TestCacheInRedis(ResultBackendContract):
    EXACT = False
    EXPIRES = False

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
