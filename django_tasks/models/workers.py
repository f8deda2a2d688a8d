"""Rows by which nodes are seen, and told things."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_tasks.models.home import OwnRows
from django_tasks.models.times import UTCDateTimeField


class Worker(models.Model):
    """A worker node, from its heartbeats. ``instance`` is unique for all time; ``name`` is what users see."""

    id = models.BigAutoField(primary_key=True)
    instance = models.CharField(max_length=64, unique=True)
    name = models.CharField(_("name"), max_length=255, db_index=True)
    host = models.CharField(_("host"), max_length=255)
    pid = models.IntegerField(_("process id"))
    pool = models.CharField(_("pool"), max_length=32)
    concurrency = models.IntegerField(_("concurrency"))
    queues = models.JSONField(_("queues"), default=list)
    active = models.IntegerField(_("running tasks"), default=0)
    processed = models.BigIntegerField(_("finished tasks"), default=0)
    version = models.CharField(_("version"), max_length=32, blank=True)
    started_at = UTCDateTimeField(_("started at"))
    heartbeat_at = UTCDateTimeField(_("last heartbeat"), db_index=True)
    stopped_at = UTCDateTimeField(_("stopped at"), null=True, blank=True)

    objects = OwnRows()

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        ordering = ("name", "-started_at")

    def __str__(self) -> str:
        return self.name


class Revocation(models.Model):
    """A task that is not to run any more. Kept until it can't come any more; survives restarts."""

    id = models.BigAutoField(primary_key=True)
    task_id = models.CharField(_("task id"), max_length=255, unique=True)
    terminate = models.BooleanField(_("stop it if it runs"), default=False)
    signal = models.CharField(_("signal"), max_length=16, default="SIGTERM")
    revoked_at = models.DateTimeField(_("revoked at"), db_index=True)
    revoked_by = models.CharField(_("revoked by"), max_length=255, blank=True)

    objects = OwnRows()

    class Meta:
        verbose_name = _("revocation")
        verbose_name_plural = _("revocations")

    def __str__(self) -> str:
        return self.task_id


class RevokedStamp(models.Model):
    """A stamp whose tasks are not to run any more, those sent later included, until the row is deleted or has passed its time.

    ``value`` is one value, as JSON. Workers notice new rows, and rows that are gone, within a second or two.
    """

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(_("name"), max_length=255)
    value = models.TextField(_("value"))
    terminate = models.BooleanField(_("stop them if they run"), default=False)
    signal = models.CharField(_("signal"), max_length=16, default="SIGTERM")
    revoked_at = models.DateTimeField(_("revoked at"), db_index=True)
    revoked_by = models.CharField(_("revoked by"), max_length=255, blank=True)

    objects = OwnRows()

    class Meta:
        verbose_name = _("revoked stamp")
        verbose_name_plural = _("revoked stamps")

    def __str__(self) -> str:
        return f"{self.name} = {self.value}"
