"""Before the first fork: what every process of the worker will need is brought into the memory that they share."""

from contextlib import suppress

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from django_tasks import brokers, events, parking, result_backends
from django_tasks.worker.revocations import learn_revocations
from django_tasks.worker.revoked import RevokedTasks
from django_tasks.worker.starting import forget_connections


def prepare() -> RevokedTasks:
    """Open once what the processes will open, learn what is revoked, and close it all.

    A module that is imported here, a query that is compiled here and an id that is known here lie in memory once. After the fork
    each process would have its own, and its own copies of the pages around them that change meanwhile.
    """
    brokers.current()
    result_backends.current()
    events.current()
    if not brokers.current().joins_transaction:
        parking.open_lot()
    for alias in connections:
        # The modules of every database, also of those in which nothing is read here; one that can't be used may never be.
        with suppress(ImproperlyConfigured):
            connections[alias].ops.compiler("SQLCompiler")
    revoked = RevokedTasks()
    learn_revocations(revoked)
    forget_connections()
    return revoked
