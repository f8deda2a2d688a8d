"""Empty the databases after a test that committed: in milliseconds, where TRUNCATE of every table takes a second on PostgreSQL."""

from functools import cache

from django.db import connections, transaction
from django.test import TransactionTestCase

#: Django fills them after migrating, and no test changes them.
KEPT = {"django_content_type", "auth_permission"}


@cache
def _tables(alias: str) -> tuple[str, ...]:
    names = connections[alias].introspection.django_table_names(only_existing=True, include_views=False)
    return tuple(name for name in names if name not in KEPT)


def empty(alias: str) -> None:
    """Delete the rows of every table that has some."""
    connection = connections[alias]
    quoted = connection.ops.quote_name
    asked = [f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM {quoted(name)})" for name in _tables(alias)]
    with transaction.atomic(using=alias), connection.constraint_checks_disabled(), connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(asked))
        for (name,) in cursor.fetchall():
            cursor.execute(f"DELETE FROM {quoted(name)}")


def _empty_all(case: TransactionTestCase) -> None:
    for alias in case._databases_names(include_mirrors=False):
        empty(alias)


def install() -> None:
    """Let every test with ``transaction=True`` end so, instead of with ``manage.py flush``."""
    TransactionTestCase._fixture_teardown = _empty_all
