"""``tasks status``, and the commands that need a conversation with the workers."""

from collections.abc import Mapping
from typing import Any

from django_tasks.beat import declared
from django_tasks.beat import rows as rows_of_beat
from django_tasks.beat.leader import leading_since
from django_tasks.cli.tables import Failure, Screen, cell
from django_tasks.models import Queue, Worker
from django_tasks.operations.workers import Liveness, alive, liveness, uptime

COLUMNS = ("name", "state", "pool", "concurrency", "queues", "active", "processed", "uptime", "pid", "host")


def status(screen: Screen, options: Mapping[str, Any]) -> int:
    """Print the living workers, with ``--all`` the others as well; 1 if none lives, or if there are schedules and no beat leads."""
    workers = Worker.objects.all() if options.get("all") else alive()
    pauses = {row.name: row for row in Queue.objects.filter(paused_at__isnull=False)}
    rows = [_described(worker, pauses) for worker in workers.order_by("name", "-started_at")]
    marked = [{**row, "queues": [f"{name} (paused)" if name in pauses else name for name in row["queues"]]} for row in rows]
    screen.rows(rows if screen.as_json else marked, COLUMNS)
    living = [row for row in rows if row["state"] == Liveness.ALIVE.value]
    if living:
        screen.say(f"\n{len(living)} alive, {sum(row['active'] for row in living)} tasks running")
    for pause in pauses.values():
        would = [row["name"] for row in living if pause.name in row["queues"]]
        screen.say(f"the queue {pause.name} is paused{_by_whom(pause)}; {', '.join(would) or 'no living worker'} would consume it")
    missing = [] if living else ["no worker is alive; `manage.py runworker` starts one"]
    leader, schedules = leading_since(), declared.enabled_count() + rows_of_beat.enabled_count()
    if leader is not None:
        screen.say(f"beat: {leader[0]} leads since {cell(leader[1])}")
    elif schedules:
        missing.append(f"no beat leads, so none of {schedules} periodic tasks is sent; `manage.py runbeat` starts one")
    if missing:
        raise Failure("; ".join(missing))
    return 0


def _by_whom(pause: Queue) -> str:
    who, why = (f" by {pause.paused_by}" if pause.paused_by else ""), (f" ({pause.reason})" if pause.reason else "")
    return f"{who} since {cell(pause.paused_at)}{why}"


def _described(worker: Worker, pauses: Mapping[str, Queue]) -> dict[str, Any]:
    seconds = int(uptime(worker).total_seconds())
    return {
        "name": worker.name,
        "state": liveness(worker).value,
        "pool": worker.pool,
        "concurrency": worker.concurrency,
        "queues": list(worker.queues or ()),
        "paused_queues": [name for name in worker.queues or () if name in pauses],
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
