"""``tasks status``, and the commands that need a conversation with the workers."""

from collections.abc import Mapping
from typing import Any

from django_tasks.cli.tables import Failure, Screen
from django_tasks.models import Worker
from django_tasks.operations.workers import Liveness, alive, liveness, uptime

COLUMNS = ("name", "state", "pool", "concurrency", "queues", "active", "processed", "uptime", "pid", "host")


def status(screen: Screen, options: Mapping[str, Any]) -> int:
    """Print the living workers, with ``--all`` the others as well; 1 if none lives."""
    workers = Worker.objects.all() if options.get("all") else alive()
    rows = [_described(worker) for worker in workers.order_by("name", "-started_at")]
    screen.rows(rows, COLUMNS)
    living = sum(row["state"] == Liveness.ALIVE.value for row in rows)
    if not living:
        raise Failure("no worker is alive; `manage.py runworker` starts one")
    screen.say(f"\n{living} alive, {sum(row['active'] for row in rows if row['state'] == Liveness.ALIVE.value)} tasks running")
    return 0


def _described(worker: Worker) -> dict[str, Any]:
    seconds = int(uptime(worker).total_seconds())
    return {
        "name": worker.name,
        "state": liveness(worker).value,
        "pool": worker.pool,
        "concurrency": worker.concurrency,
        "queues": list(worker.queues or ()),
        "active": worker.active,
        "processed": worker.processed,
        "uptime": f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}",
        "pid": worker.pid,
        "host": worker.host,
        "version": worker.version,
        "started_at": worker.started_at,
        "heartbeat_at": worker.heartbeat_at,
        "stopped_at": worker.stopped_at,
    }


def to_come(screen: Screen, options: Mapping[str, Any]) -> int:
    """Say of a command of Celery's that it isn't there yet."""
    instead = {
        "inspect": "`tasks status` shows the workers, the admin what runs",
        "control": "`tasks queues pause` stops a queue, the admin revokes tasks",
        "report": "`manage.py diffsettings` and `tasks status` tell most of it",
    }
    name = options["subcommand"]
    raise Failure(f"`tasks {name}` comes with a later release; until then {instead[name]}", status=2)
