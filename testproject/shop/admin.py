"""The shop in the admin."""

from django.contrib import admin

from shop.models import JournalEntry, Order, Snapshot


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    """Orders with how far they are."""

    list_display = ("__str__", "customer", "express", "placed_at", "confirmed_at", "packed_at")
    list_filter = ("express", "tea")
    search_fields = ("customer",)


@admin.register(Snapshot)
class SnapshotAdmin(admin.ModelAdmin):
    """What the periodic task wrote."""

    list_display = ("at", "orders", "packed")


@admin.register(JournalEntry)
class JournalEntryAdmin(admin.ModelAdmin):
    """What hooks and signals wrote."""

    list_display = ("at", "text")
