"""Schedules of periodic tasks: Celery's ``crontab``, ``schedule`` and ``solar``, django-celery-beat's ``clocked``, as they are.

``BEAT_SCHEDULE`` and ``app.add_periodic_task`` take them, and numbers of seconds or timedeltas. Importing this module
imports Celery; nothing else in a web process does.
"""

from celery.schedules import BaseSchedule, ParseException, crontab, maybe_schedule, schedule, solar
from django_celery_beat.clockedschedule import clocked

__all__ = ["BaseSchedule", "ParseException", "clocked", "crontab", "maybe_schedule", "schedule", "solar"]
