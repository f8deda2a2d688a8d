"""Rows of the database broker, and what can be said of any broker's queues."""

from typing import Any

from django.core.checks import CheckMessage
from django.db import models
from django.utils.translation import gettext_lazy as _

from django_tasks.models.home import OwnRows
from django_tasks.models.times import UTCDateTimeField


class MessageState(models.IntegerChoices):
    """Where a message of the database broker is."""

    READY = 0, _("ready")
    CLAIMED = 1, _("claimed")
    DELAYED = 2, _("delayed")


class Message(models.Model):
    """A queued task of the database broker.

    ``until`` is the end of the lease of a claimed message, and the due time of a delayed one. The brokers
    write these rows with SQL of their own; a change of columns is a change there.
    """

    id = models.BigAutoField(primary_key=True)
    queue = models.CharField(_("queue"), max_length=255)
    priority = models.SmallIntegerField(_("priority"), default=0)
    state = models.SmallIntegerField(_("state"), choices=MessageState.choices, default=MessageState.READY)
    until = UTCDateTimeField(_("until"), null=True, blank=True)
    claimed_by = models.CharField(_("claimed by"), max_length=255, null=True, blank=True)  # noqa: DJ001  NULL: not claimed
    deliveries = models.IntegerField(_("deliveries"), default=0)
    # No index: every message would pay a third of its INSERT for a look-up that only people make.
    task_id = models.CharField(_("task id"), max_length=255)
    task = models.CharField(_("task"), max_length=255)
    content_type = models.CharField(max_length=64)
    content_encoding = models.CharField(max_length=64)
    headers = models.TextField(_("headers"))
    properties = models.TextField(_("properties"))
    body = models.BinaryField(_("body"))
    created_at = UTCDateTimeField(_("created at"))

    objects = OwnRows()

    class Meta:
        verbose_name = _("queued message")
        verbose_name_plural = _("queued messages")
        permissions = (
            ("revoke_message", _("Can revoke queued messages")),
            ("promote_message", _("Can run delayed messages now")),
        )
        # Partial, and not only to be small: with 50,000 delayed rows and statistics from before the rush, PostgreSQL took
        # a complete ``due`` for the better way to the ready rows, and sorted them all at every claim. MySQL has no
        # partial indexes and makes them complete; there, ``state`` comes first for its sake.
        indexes = (
            # The order in which messages are claimed: an exact priority, then first come first served.
            models.Index(
                fields=["state", "queue", "-priority", "id"], name="django_tasks_message_next", condition=models.Q(state=MessageState.READY)
            ),
            # What falls due: delayed messages and lapsed leases.
            models.Index(fields=["state", "until"], name="django_tasks_message_due", condition=models.Q(until__isnull=False)),
        )

    def __str__(self) -> str:
        return f"{self.task}[{self.task_id}]"

    @classmethod
    def check(cls, **kwargs: Any) -> list[CheckMessage]:
        """Check the model as Django does, but don't warn that MySQL ignores the indexes' conditions: that is intended."""
        return [message for message in super().check(**kwargs) if message.id != "models.W037"]


class DeadLetter(models.Model):
    """A message that went wrong for good, kept as it was so that it can be replayed. For every broker."""

    id = models.BigAutoField(primary_key=True)
    queue = models.CharField(_("queue"), max_length=255)
    priority = models.SmallIntegerField(_("priority"), default=0)
    task_id = models.CharField(_("task id"), max_length=255, db_index=True)
    task = models.CharField(_("task"), max_length=255)
    reason = models.CharField(_("reason"), max_length=64, db_index=True)
    detail = models.TextField(_("detail"), blank=True)
    deliveries = models.IntegerField(_("deliveries"), default=0)
    worker = models.CharField(_("worker"), max_length=255, blank=True)
    exchange = models.CharField(max_length=255, blank=True)
    routing_key = models.CharField(max_length=255, blank=True)
    content_type = models.CharField(max_length=64)
    content_encoding = models.CharField(max_length=64)
    headers = models.TextField(_("headers"))
    properties = models.TextField(_("properties"))
    body = models.BinaryField(_("body"))
    died_at = UTCDateTimeField(_("died at"), db_index=True)

    objects = OwnRows()

    class Meta:
        verbose_name = _("dead letter")
        verbose_name_plural = _("dead letters")
        ordering = ("-died_at",)
        permissions = (("replay_deadletter", _("Can replay dead letters")),)

    def __str__(self) -> str:
        return f"{self.task}[{self.task_id}]: {self.reason}"


class Redelivery(models.Model):
    """A message that a broker handed out again because a connection ended: how often it has been started, and what ended it.

    Only for brokers that keep no count themselves and can't settle what a killed process held (RabbitMQ). A row
    lives until its message is settled.
    """

    id = models.BigAutoField(primary_key=True)
    task_id = models.CharField(_("task id"), max_length=255, unique=True)
    starts = models.IntegerField(_("started again"), default=0)
    cause = models.CharField(_("cause"), max_length=32, blank=True)
    how = models.CharField(_("how"), max_length=255, blank=True)
    updated_at = UTCDateTimeField(_("updated at"), db_index=True)

    objects = OwnRows()

    class Meta:
        verbose_name = _("redelivery")
        verbose_name_plural = _("redeliveries")

    def __str__(self) -> str:
        return f"{self.task_id}: {self.cause or self.starts}"


class Queue(models.Model):
    """What is known of a queue beside its messages: whether it is paused, by whom and why."""

    name = models.CharField(_("name"), max_length=255, unique=True)
    paused_at = models.DateTimeField(_("paused at"), null=True, blank=True)
    paused_by = models.CharField(_("paused by"), max_length=255, blank=True)
    reason = models.TextField(_("reason"), blank=True)

    objects = OwnRows()

    class Meta:
        verbose_name = _("queue")
        verbose_name_plural = _("queues")
        ordering = ("name",)
        permissions = (
            ("purge_queue", _("Can purge queues")),
            ("pause_queue", _("Can pause and resume queues")),
        )

    def __str__(self) -> str:
        return self.name
