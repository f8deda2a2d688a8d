"""``redis://HOST:PORT/DB``: results in Redis, under the keys and in the form that Celery gives them."""

from django_tasks.result_backends.redis.backend import RedisResultBackend

__all__ = ["RedisResultBackend"]
