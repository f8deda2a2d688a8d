"""Rows of beat: what it has sent, and which of several beats leads."""

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from django_tasks.models.home import OwnRows
from django_tasks.models.times import UTCDateTimeField, aware


class BeatTerm(models.Model):
    """Who leads until when. One row; several beats only compete to spare each other work, never for correctness."""

    name = models.CharField(max_length=32, primary_key=True)
    holder = models.CharField(_("leader"), max_length=255)
    elected_at = UTCDateTimeField(_("leads since"))
    expires_at = UTCDateTimeField(_("leads until"))

    objects = OwnRows()

    class Meta:
        verbose_name = _("beat term")
        verbose_name_plural = _("beat terms")

    def __str__(self) -> str:
        return f"{self.name}: {self.holder}"


class BeatRun(models.Model):
    """One run of a periodic task. Unique by entry and due time: the reason two beats never send a run twice.

    ``sent_at`` is null between recording a run and handing it to a broker that can't join the transaction.
    """

    id = models.BigAutoField(primary_key=True)
    entry = models.CharField(_("periodic task"), max_length=255)
    due_at = UTCDateTimeField(_("due at"), db_index=True)
    task_id = models.CharField(_("task id"), max_length=255)
    task = models.CharField(_("task"), max_length=255)
    sent_at = UTCDateTimeField(_("sent at"), null=True, blank=True)
    #: Who sent it by hand, beside its schedule; empty for a run that was due.
    sent_by = models.CharField(_("sent by hand by"), max_length=255, blank=True, default="")

    objects = OwnRows()

    class Meta:
        verbose_name = _("periodic run")
        verbose_name_plural = _("periodic runs")
        ordering = ("-due_at",)
        constraints = (models.UniqueConstraint(fields=["entry", "due_at"], name="django_tasks_beatrun_once"),)

    def __str__(self) -> str:
        due = timezone.localtime(aware(self.due_at))
        return f"{self.entry} at {due:%Y-%m-%d %H:%M:%S}"


class BeatStart(models.Model):
    """From when on the interval of a row counts that never ran. Saving the row again doesn't put its first run off.

    ``every`` is the interval in microseconds: another one begins anew. Beat deletes this once the row has run.
    """

    periodic_task_id = models.BigIntegerField(primary_key=True)
    every = models.BigIntegerField()
    since = UTCDateTimeField()

    objects = OwnRows()

    class Meta:
        verbose_name = _("start of a periodic task")
        verbose_name_plural = _("starts of periodic tasks")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.periodic_task_id} since {self.since}"
