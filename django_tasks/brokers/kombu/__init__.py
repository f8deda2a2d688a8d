"""``amqp://`` and every other transport that kombu has: RabbitMQ natively, the rest through kombu's virtual channels."""

from django_tasks.brokers.kombu.broker import KombuBroker

__all__ = ["KombuBroker"]
