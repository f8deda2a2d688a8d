"""What the worker says when it starts."""

import platform
from collections.abc import Iterable

import django

from django_tasks.conf import settings
from django_tasks.urls import mask
from django_tasks.version import __version__
from django_tasks.worker.options import WorkerOptions

_LIMITS = {
    "prefork": "soft and hard time limits hold for every task",
    "threads": "a task past its hard time limit costs the whole process; its other tasks get a grace period",
    "asyncio": "soft limits cancel coroutines; a hard limit costs the whole process",
    "solo": "soft time limits only, for there is no process to kill",
}


def compose_banner(options: WorkerOptions, task_names: Iterable[str], *, with_tasks: bool) -> str:
    """Compose the start-up banner: application, broker, results, pool, queues, registered tasks."""
    names = sorted(name for name in task_names if not name.startswith("celery."))
    processes = f"{options.concurrency} processes" if options.pool == "prefork" else f"{options.concurrency} at once"
    lines = [
        f"django_tasks {__version__} · Python {platform.python_version()} · Django {django.get_version()}",
        "",
        f"  worker   {options.name}",
        f"  broker   {_masked(settings.BROKER_URL)}",
        f"  results  {_masked(settings.RESULT_BACKEND or 'disabled://')}",
        f"  pool     {options.pool}, {processes}: {_LIMITS[options.pool]}",
        f"  queues   {', '.join(options.queues)}",
        f"  beat     {'inside' if options.beat else 'no (start one with manage.py runbeat)'}",
        f"  tasks    {len(names)} registered" + (":" if with_tasks and names else ""),
    ]
    if with_tasks:
        lines += [f"             {name}" for name in names]
    return "\n".join(lines) + "\n"


def _masked(urls: object) -> str:
    parts = urls if isinstance(urls, list | tuple) else [urls]
    return "; ".join(mask(str(part)) for part in parts)
