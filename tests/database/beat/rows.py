"""Rows of periodic tasks, and what beat made of them."""

import json
from datetime import UTC, datetime, timedelta

from django_celery_beat.models import IntervalSchedule, PeriodicTask

from django_tasks.models import BeatRun, Message

START = datetime(2026, 3, 2, 12, 0, 0, 250_000, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def on_the_second(seconds: int) -> datetime:
    return at(seconds).replace(microsecond=0)


def periodic(name="beat", *, every=10, period="seconds", changed=START, **fields):
    """Write a row as if it had been saved at ``changed``."""
    if not fields.keys() & {"crontab", "solar", "clocked", "interval"}:
        fields["interval"], _ = IntervalSchedule.objects.get_or_create(every=every, period=period)
    row = PeriodicTask.objects.create(name=name, task=fields.pop("task", "shop.tasks.count"), **fields)
    PeriodicTask.objects.filter(pk=row.pk).update(date_changed=changed)
    row.date_changed = changed
    return row


def sent() -> list[tuple[str, str]]:
    return [(json.loads(message.headers)["periodic_task_name"], message.task_id) for message in Message.objects.order_by("id")]


def due_times(name="beat") -> list[datetime]:
    return list(BeatRun.objects.filter(entry=name).order_by("due_at").values_list("due_at", flat=True))
