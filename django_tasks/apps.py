"""The Django app: what happens when the project's apps are ready, when a setting changes and when a database is connected."""

import sqlite3
import sys
from contextlib import suppress
from typing import Any

from django.apps import AppConfig, apps
from django.core.signals import setting_changed
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.utils.translation import gettext_lazy as _

from django_tasks import log, routing
from django_tasks.conf import settings
from django_tasks.importing import import_module
from django_tasks.registry import import_task_modules, registry

#: Rooms that keep something made from the settings. Each has a ``reset()``; those that nobody has imported keep nothing.
_MADE_FROM_SETTINGS = ("routing", "client", "brokers", "events", "result_backends")
#: Milliseconds for which SQLite waits for another's transaction, unless the project sets ``timeout``.
_SQLITE_PATIENCE = 30_000


class DjangoTasksConfig(AppConfig):
    """Background tasks: autodiscovery, system checks and reactions to changed settings."""

    name = "django_tasks"
    label = "django_tasks"
    verbose_name = _("Tasks")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Listen, register the checks, and import every task: a web process knows them by name, as a worker does."""
        log.enable_loggers()
        connection_created.connect(tune_sqlite, dispatch_uid="django_tasks.tune_sqlite")
        setting_changed.connect(forget_settings, dispatch_uid="django_tasks.forget_settings")
        routing.set_task_lookup(registry.find)
        # The second for its effect: it teaches the serializers to refer to model instances.
        from django_tasks import checks, modelreferences  # noqa: F401

        if apps.is_installed("django_celery_beat"):
            from django_tasks.beat import crontabrows

            crontabrows.adopt()
        checks.register()
        discover_tasks()


def discover_tasks() -> list[str]:
    """Import the built-in tasks, every app's ``tasks`` and the modules of IMPORTS; then say that the app is complete.

    Returns the names of the modules. What a module raises is the project's to see: it is raised as it is, or told by the command
    that runs.
    """
    # Imported here, since Django imports this module before it has any app.
    from django_tasks import application, builtins, signals

    signals.import_modules.send(application.app)
    imported = [builtins.__name__]
    # All models are loaded by now, those of the apps behind this one, too.
    imported += import_task_modules(config.name for config in apps.get_app_configs() if config.name != "django_tasks")
    # A string instead of a list is the system checks' to report.
    listed = [module for modules in (settings.IMPORTS, settings.INCLUDE) if not isinstance(modules, str) for module in modules or ()]
    imported += [module for module in listed if import_module(module)]
    # A program that is a module of tasks goes on when this is done: its tasks have the names that they have for who imports it.
    application.app.main = next((name for name in imported if sys.modules.get(name) is sys.modules["__main__"]), application.app.main)
    application.finalize()
    return imported


def forget_settings(*, setting: str, **_kwargs: Any) -> None:
    """Let go of what was made from the settings when one of ours changes, as under ``override_settings``."""
    if setting != "DJANGO_TASKS" and not setting.startswith("CELERY_"):
        return
    settings.reset()
    for name in _MADE_FROM_SETTINGS:
        module = sys.modules.get(f"django_tasks.{name}")
        if module is not None and hasattr(module, "reset"):
            module.reset()


def tune_sqlite(*, connection: BaseDatabaseWrapper, **_kwargs: Any) -> None:
    """Make a SQLite file fit for several processes: WAL, patience, and transactions that take the write lock at once.

    Without the last, a transaction that reads before it writes fails with «database is locked», however patient it is.
    What the project sets in OPTIONS stays as it is, and SQLITE_TUNING = False leaves everything so.
    """
    if connection.vendor != "sqlite" or not settings.SQLITE_TUNING or connection.is_in_memory_db():  # type: ignore[attr-defined]
        return
    options = connection.settings_dict.get("OPTIONS") or {}
    if "transaction_mode" not in options:
        connection.transaction_mode = "IMMEDIATE"  # type: ignore[attr-defined]
    done_by_project = str(options.get("init_command") or "").lower()
    wanted = {"busy_timeout": None if "timeout" in options else _SQLITE_PATIENCE, "journal_mode": "WAL", "synchronous": "NORMAL"}
    for pragma, value in wanted.items():
        if value is not None and pragma not in done_by_project:
            # Past Django's cursor, which would count these among the project's queries. A read-only file, or one that
            # another process holds, is left as it is: the next connection comes by again.
            with suppress(sqlite3.Error):
                connection.connection.execute(f"PRAGMA {pragma} = {value}")
