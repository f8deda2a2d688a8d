"""Whether the databases have what a worker or a beat needs, asked before one starts."""

from collections.abc import Iterable

from django.apps import apps
from django.db import DEFAULT_DB_ALIAS, connections, models, router

from django_tasks import brokers, result_backends
from django_tasks.conf import settings
from django_tasks.dbaccess import reaching
from django_tasks.models import Message

_BEATS = "django_celery_beat"


def check_databases(*, beat: bool = False) -> None:
    """Look at every table that a worker uses; with ``beat`` at those of the schedules, too.

    Raises ServerRefusedError where a table or a column, the database or the right to use it is missing, and OperationalError where
    a database can't be reached.
    """
    labels = ["django_tasks"] + ([_BEATS] if beat and apps.is_installed(_BEATS) else [])
    for alias, tables in _by_database(labels):
        with reaching(alias, "Looking at the tables") as connection, connection.cursor() as cursor:
            quote = connection.ops.quote_name
            for model in tables:
                columns = ", ".join(quote(str(field.column)) for field in model._meta.local_concrete_fields)
                # No row is read: a name that is missing is an error all the same.
                cursor.execute(f"SELECT {columns} FROM {quote(model._meta.db_table)} WHERE 1 = 0")  # noqa: S608  names of our models


def _by_database(labels: Iterable[str]) -> Iterable[tuple[str, list[type[models.Model]]]]:
    # Some tables are in a database of their own, whatever a router says of their model.
    places: dict[type[models.Model], str | None] = {Message: getattr(brokers.current(), "alias", None) or settings.TASK_OUTBOX_DATABASE}
    if alias := getattr(result_backends.current(), "alias", None):
        places |= dict.fromkeys((model for model in _models(labels) if model.__module__.endswith(".models.results")), alias)
    found: dict[str, list[type[models.Model]]] = {}
    for model in _models(labels):
        alias = places.get(model) or router.db_for_write(model) or DEFAULT_DB_ALIAS
        if alias in connections and router.allow_migrate_model(alias, model):
            found.setdefault(alias, []).append(model)
    return found.items()


def _models(labels: Iterable[str]) -> list[type[models.Model]]:
    return [model for label in labels for model in apps.get_app_config(label).get_models() if model._meta.managed]
