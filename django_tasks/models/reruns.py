"""Rows that tell which task was run again as which."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from django_tasks.models.home import OwnRows


class Rerun(models.Model):
    """A call that somebody made again: the task it was, the task it is now (the same, where it ran again under its own id), by whom."""

    id = models.BigAutoField(primary_key=True)
    task_id = models.CharField(_("task id"), max_length=255, db_index=True)
    new_id = models.CharField(_("run again as"), max_length=255, db_index=True)
    run_at = models.DateTimeField(_("run again at"), db_index=True)
    run_by = models.CharField(_("run again by"), max_length=255, blank=True)

    objects = OwnRows()

    class Meta:
        verbose_name = _("rerun")
        verbose_name_plural = _("reruns")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.task_id} as {self.new_id}"
