"""The shop's rows."""

from django.db import models


class Order(models.Model):
    """Somebody wants tea."""

    customer = models.EmailField()
    tea = models.CharField(max_length=40)
    grams = models.PositiveIntegerField(default=100)
    express = models.BooleanField(default=False)
    placed_at = models.DateTimeField(auto_now_add=True)
    confirmed_at = models.DateTimeField(null=True, blank=True)
    packed_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"#{self.pk} {self.grams} g {self.tea}"


class Snapshot(models.Model):
    """What the periodic task saw: how many orders there are, and how many are packed."""

    at = models.DateTimeField(auto_now_add=True)
    orders = models.PositiveIntegerField()
    packed = models.PositiveIntegerField()

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.at:%H:%M:%S}: {self.packed} of {self.orders}"


class JournalEntry(models.Model):
    """One line of the books, written by hooks and signals."""

    at = models.DateTimeField(auto_now_add=True)
    text = models.CharField(max_length=200)

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "journal"

    def __str__(self) -> str:
        return self.text
