"""The check of the periodic tasks that the project's code declares."""

from collections.abc import Iterator
from typing import Any, Final

from django.core.checks import CheckMessage, Error, Warning

from django_tasks.checks.findings import failures, well_typed, where, works
from django_tasks.conf import settings
from django_tasks.registry import periodic_tasks, registry
from django_tasks.tasks.periodic import refuse_arguments, refuse_options

_HINT: Final = "Until it is right, beat passes over this entry and sends the others."
_OUTCOME: Final = "beat would send nothing"


def check_periodic_tasks(**_kwargs: Any) -> list[CheckMessage]:
    """E018, W018: entries of BEAT_SCHEDULE and add_periodic_task that can't be scheduled or sent, or whose task nobody knows here."""
    if not well_typed("BEAT_SCHEDULE", "TIMEZONE") or not (settings.BEAT_SCHEDULE or periodic_tasks):
        return []
    # Here, since it brings Celery's schedules.
    from django_tasks.beat import declared, entries

    if not works(lambda _: entries.schedule_zone(), None):
        return []
    zone = entries.schedule_zone()

    def attempt(item: tuple[str, Any]) -> None:
        entry = declared.read(*item, zone=zone)
        if entry is not None:
            refuse_options(entry.task, entry.options, _OUTCOME)
            refuse_arguments(registry.find(entry.task), entry.args, entry.kwargs, _OUTCOME)

    found = declared.declarations()
    return [*(_broken(name, error) for (name, _), error in failures(attempt, found.items())), *_unknown(found)]


def _broken(name: Any, error: Exception) -> CheckMessage:
    return Error(f"The periodic task {name!r} of {_place(name)} can't be: {error}.", hint=_HINT, id="django_tasks.E018")


def _unknown(found: dict[str, Any]) -> Iterator[CheckMessage]:
    for name, spec in found.items():
        task = spec.get("task") if isinstance(spec, dict) else None
        if isinstance(task, str) and task not in registry:
            yield Warning(
                f"The periodic task {name!r} of {_place(name)} sends {task!r}, a name under which no task is registered here.",
                hint="Mend the name, or silence this check if the workers of another project run it.",
                id="django_tasks.W018",
            )


def _place(name: Any) -> str:
    return where("BEAT_SCHEDULE") if name in settings.BEAT_SCHEDULE else "add_periodic_task"
