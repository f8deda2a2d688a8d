"""Rows of the database result backend, with django-celery-results' field names."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_tasks import states
from django_tasks.models.home import ResultRows


class TaskResult(models.Model):
    """The state and the outcome of one task.

    ``result`` is text in ``content_type`` and ``content_encoding``; ``task_args`` and ``task_kwargs`` are JSON
    (the values, so that a task can be run again), and ``meta`` is JSON for what else is known: children, stamps.
    """

    id = models.BigAutoField(primary_key=True)
    task_id = models.CharField(_("task id"), max_length=255)
    periodic_task_name = models.CharField(_("periodic task"), max_length=255, null=True, blank=True)  # noqa: DJ001  as in django-celery-results
    task_name = models.CharField(_("task"), max_length=255, null=True, blank=True)  # noqa: DJ001
    task_args = models.TextField(_("positional arguments"), null=True, blank=True)  # noqa: DJ001
    task_kwargs = models.TextField(_("named arguments"), null=True, blank=True)  # noqa: DJ001
    status = models.CharField(_("state"), max_length=50, default=states.PENDING)
    worker = models.CharField(_("worker"), max_length=255, null=True, blank=True)  # noqa: DJ001
    queue = models.CharField(_("queue"), max_length=255, null=True, blank=True)  # noqa: DJ001
    content_type = models.CharField(_("result content type"), max_length=128, default="application/json")
    content_encoding = models.CharField(_("result encoding"), max_length=64, default="utf-8")
    result = models.TextField(_("result"), null=True, blank=True)  # noqa: DJ001
    traceback = models.TextField(_("traceback"), null=True, blank=True)  # noqa: DJ001
    meta = models.TextField(_("meta"), null=True, blank=True)  # noqa: DJ001
    retries = models.IntegerField(_("retries"), default=0)
    runtime = models.FloatField(_("run time (seconds)"), null=True, blank=True)
    group_id = models.CharField(_("group id"), max_length=255, null=True, blank=True)  # noqa: DJ001
    root_id = models.CharField(_("root id"), max_length=255, null=True, blank=True)  # noqa: DJ001
    parent_id = models.CharField(_("parent id"), max_length=255, null=True, blank=True)  # noqa: DJ001
    date_created = models.DateTimeField(_("created at"))
    date_started = models.DateTimeField(_("started at"), null=True, blank=True)
    date_done = models.DateTimeField(_("done at"), null=True, blank=True)

    objects = ResultRows()

    class Meta:
        verbose_name = _("task result")
        verbose_name_plural = _("task results")
        ordering = ("-id",)
        permissions = (
            ("rerun_taskresult", _("Can run tasks again")),
            ("revoke_taskresult", _("Can revoke tasks")),
        )
        # Every index is paid for by every task, so there are two: the id, and what retention needs. (A constraint,
        # since unique=True on a text column makes PostgreSQL keep a second index for LIKE.)
        constraints = (models.UniqueConstraint(fields=["task_id"], name="django_tasks_result_once"),)
        indexes = (models.Index(fields=["date_done"], name="django_tasks_result_done"),)

    def __str__(self) -> str:
        return f"{self.task_name}[{self.task_id}]: {self.status}"


class GroupResult(models.Model):
    """A saved group: the result tuples of its members as JSON."""

    id = models.BigAutoField(primary_key=True)
    group_id = models.CharField(_("group id"), max_length=255, unique=True)
    content_type = models.CharField(_("content type"), max_length=128, default="application/json")
    content_encoding = models.CharField(_("encoding"), max_length=64, default="utf-8")
    result = models.TextField(_("members"), null=True, blank=True)  # noqa: DJ001
    date_created = models.DateTimeField(_("created at"))
    date_done = models.DateTimeField(_("done at"), null=True, blank=True)

    objects = ResultRows()

    class Meta:
        verbose_name = _("group result")
        verbose_name_plural = _("group results")
        ordering = ("-id",)

    def __str__(self) -> str:
        return self.group_id


class ChordCounter(models.Model):
    """A chord on its way: how many parts are expected, and the body to send when they are all there."""

    id = models.BigAutoField(primary_key=True)
    group_id = models.CharField(_("group id"), max_length=255, unique=True)
    size = models.IntegerField(_("parts expected"))
    done = models.IntegerField(_("parts done"), default=0)
    body = models.TextField(_("body"))
    date_created = models.DateTimeField(_("created at"))
    date_done = models.DateTimeField(_("sent at"), null=True, blank=True)
    #: While somebody sends the body: until when that one is taken to be alive.
    claimed_until = models.DateTimeField(_("being sent until"), null=True, blank=True)

    objects = ResultRows()

    class Meta:
        verbose_name = _("chord")
        verbose_name_plural = _("chords")

    def __str__(self) -> str:
        return self.group_id


class ChordPart(models.Model):
    """One finished part of a chord. Unique, so a part that is delivered twice counts once."""

    id = models.BigAutoField(primary_key=True)
    group_id = models.CharField(max_length=255)
    task_id = models.CharField(max_length=255)
    position = models.IntegerField(null=True)

    objects = ResultRows()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["group_id", "task_id"], name="django_tasks_chordpart_once"),)

    def __str__(self) -> str:
        return f"{self.group_id}: {self.task_id}"
