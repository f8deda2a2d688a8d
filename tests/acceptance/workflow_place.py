"""A worker for all workflows of a module, on a place of the fixture's parameter."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections
from django.test import override_settings

from tests.places import POSTGRES, RABBITMQ, REDIS, SQLITE, Place, open_place
from tests.processes import WorkerProcess

#: The places, and RabbitMQ with results in Redis.
PLACES = [
    SQLITE,
    POSTGRES,
    REDIS,
    RABBITMQ,
    pytest.param("rabbitmq+redis", marks=[pytest.mark.rabbitmq, pytest.mark.redis], id="rabbitmq+redis"),
]


@dataclass
class Running:
    """A worker, where it works, and the environment of further processes."""

    place: Place
    worker: WorkerProcess
    environment: dict[str, str]
    engine: SimpleNamespace


@contextmanager
def running(name: str, effects: Path, *arguments: str, **options: Any) -> Iterator[Running]:
    """Start a worker there; afterwards leave nothing behind."""
    broker, _, results = name.partition("+")
    with ExitStack() as stack:
        place = stack.enter_context(open_place(broker))
        if results:
            kept = stack.enter_context(open_place(results))
            place.result_backend = kept.result_backend
            place.options["RESULT_BACKEND_TRANSPORT_OPTIONS"] = kept.options["RESULT_BACKEND_TRANSPORT_OPTIONS"]
        place.options.update({"IMPORTS": ["tests.sampleapp.workflows"], **options})
        environment = _environment(effects)
        holder = SimpleNamespace(DJANGO_TASKS={})
        place.use(holder, environment)
        stack.enter_context(override_settings(DJANGO_TASKS=holder.DJANGO_TASKS))
        stack.enter_context(_effects(effects))
        from tests.sampleapp import workflows

        worker = WorkerProcess(environment, *arguments)
        try:
            yield Running(place, worker, environment, workflows.engine)
        finally:
            worker.stop()
            _empty()


def _environment(effects: Path) -> dict[str, str]:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONUNBUFFERED": "1", "EFFECTS": str(effects)}
    for alias, variable in {"default": "SQLITE_NAME", "postgres": "POSTGRES_NAME", "mysql": "MYSQL_NAME"}.items():
        if alias in connections:
            environment[variable] = str(connections[alias].settings_dict["NAME"])
    return environment


@contextmanager
def _effects(path: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EFFECTS", str(path))
        yield


def _empty() -> None:
    for alias in ("default", "postgres"):
        if alias in connections:
            call_command("flush", interactive=False, verbosity=0, database=alias)
