"""Result backends on a server of the tests' own."""

from collections.abc import Iterator
from contextlib import contextmanager

from django_tasks.result_backends import open_result_backend
from django_tasks.result_backends.redis import RedisResultBackend


@contextmanager
def opened(settings, url, **options) -> Iterator[RedisResultBackend]:
    settings.DJANGO_TASKS = {"RESULT_BACKEND": url, **options}
    backend = open_result_backend(url)
    yield backend
    backend.close()
