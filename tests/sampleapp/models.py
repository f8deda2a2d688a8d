"""Rows by which a test sees that a task ran, in whatever process."""

from django.db import models


class Effect(models.Model):
    """One run of a task: its key, and the process that ran it."""

    key = models.CharField(max_length=255, db_index=True)
    pid = models.IntegerField(default=0)
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        return self.key
