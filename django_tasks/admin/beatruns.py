"""Runs of periodic tasks: what beat has sent, and people by hand."""

from typing import ClassVar

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_tasks.admin.display import EMPTY, moment, plain, task_link
from django_tasks.admin.links import schedule_link
from django_tasks.admin.operating import OperatorAdmin
from django_tasks.models import BeatRun


@admin.register(BeatRun)
class BeatRunAdmin(OperatorAdmin[BeatRun]):
    """What beat has sent in the last days, and what was sent by hand."""

    list_display = ("entry", "due", "task", "short_id", "sent", "by_hand")
    list_display_links = ("entry",)
    list_filter = (("due_at", admin.DateFieldListFilter),)
    search_fields = ("entry", "task", "=task_id")
    search_help_text = gettext_lazy("A periodic task's name or a part of it, with its spaces; a task; or the id of a run.")
    ordering = ("-due_at",)
    sortable_by = ("due",)
    fields: ClassVar[tuple[str, ...]] = ("title", "schedule", "due", "task", "short_id", "sent", "by_hand")

    def get_search_results(self, request: HttpRequest, queryset: "QuerySet[BeatRun]", search_term: str) -> "tuple[QuerySet[BeatRun], bool]":
        """Look for the term as it is: names of periodic tasks have spaces."""
        term = search_term.strip()
        if not term:
            return queryset, False
        starts = Q(task_id__startswith=term.rstrip("…"))
        return queryset.filter(Q(entry__icontains=term) | Q(task__icontains=term) | starts), False

    @admin.display(description=gettext_lazy("run"))
    def title(self, run: BeatRun) -> str:
        """The run, in a line."""
        return _("%(entry)s, due at %(time)s") % {"entry": run.entry, "time": plain(run.due_at)}

    @admin.display(description=gettext_lazy("periodic task"))
    def schedule(self, run: BeatRun) -> SafeString | str:
        """The periodic task, linked."""
        return schedule_link(run.entry)

    @admin.display(description=gettext_lazy("due at"), ordering="due_at")
    def due(self, run: BeatRun) -> SafeString | str:
        """When it was due."""
        return moment(run.due_at)

    @admin.display(description=gettext_lazy("sent at"))
    def sent(self, run: BeatRun) -> SafeString | str:
        """When its message was with the broker."""
        return moment(run.sent_at)

    @admin.display(description=gettext_lazy("by hand"))
    def by_hand(self, run: BeatRun) -> SafeString | str:
        """Who sent it beside its schedule."""
        return format_html('<span class="dt-badge dt-warn">{}</span>', run.sent_by) if run.sent_by else EMPTY

    @admin.display(description=gettext_lazy("task id"))
    def short_id(self, run: BeatRun) -> SafeString | str:
        """The id of the task that was sent."""
        return task_link(run.task_id)

    def has_delete_permission(self, request: HttpRequest, obj: BeatRun | None = None) -> bool:
        """Never: a deleted record would let its run be sent again. Beat deletes old ones."""
        return False
