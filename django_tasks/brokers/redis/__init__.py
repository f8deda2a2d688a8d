"""Messages in Redis, in kombu's layout: Celery's producers and workers can share the queues."""

from django_tasks import redisaccess  # noqa: F401  first: where redis-py is missing, it says what to install
from django_tasks.brokers.redis.broker import RedisBroker

__all__ = ["RedisBroker"]
