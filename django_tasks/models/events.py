"""Rows of monitoring events, where the broker is a database."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_tasks.models.home import OwnRows


class Event(models.Model):
    """What a worker or a caller said of a task or itself. News, not a record: rows go after EVENT_QUEUE_EXPIRES seconds."""

    id = models.BigAutoField(primary_key=True)
    type = models.CharField(_("type"), max_length=255)
    hostname = models.CharField(_("host name"), max_length=255)
    timestamp = models.FloatField(_("timestamp"))
    #: The event's other fields, as JSON. Text, as PostgreSQL's jsonb has no place for some characters that tracebacks may hold.
    fields = models.TextField(_("fields"))

    objects = OwnRows()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")

    def __str__(self) -> str:
        return f"{self.type} of {self.hostname}"
