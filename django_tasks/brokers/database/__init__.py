"""``db://ALIAS``: messages are rows of a Django database; publishing is an INSERT in the caller's transaction."""

from django_tasks.brokers.database.broker import DatabaseBroker

__all__ = ["DatabaseBroker"]
