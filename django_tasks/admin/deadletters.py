"""Dead letters: look, replay, delete."""

from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_tasks import deadletters
from django_tasks.admin.contents import STORED_FIELDS, ContentFields
from django_tasks.admin.display import EMPTY, badge, code, lifetime, moment, mono, recent, short
from django_tasks.admin.filters import MessageTaskFilter, QueueFilter, ReasonFilter
from django_tasks.admin.links import worker_link
from django_tasks.admin.pauses import PausesList, mark, tell
from django_tasks.admin.searching import MessageSearchAdmin
from django_tasks.conf import settings
from django_tasks.exceptions import OperationalError
from django_tasks.models import DeadLetter
from django_tasks.operations import reruns


@admin.register(DeadLetter)
class DeadLetterAdmin(ContentFields, MessageSearchAdmin[DeadLetter]):
    """Messages that went wrong for good, kept so that they can be sent again."""

    list_display = ("task_name", "why", "short_id", "what", "in_queue", "deliveries", "died_lately")
    list_display_links = ("task_name", "short_id")
    list_filter = (ReasonFilter, QueueFilter, MessageTaskFilter, ("died_at", admin.DateFieldListFilter))
    search_fields = ("=task_id", "task", "detail")
    search_help_text = gettext_lazy("A task's name, the id of one call or its beginning, words of the detail, or a part of the arguments.")
    ordering = ("-died_at",)
    sortable_by = ("died_lately",)
    actions = ("replay",)
    object_actions: ClassVar[tuple[str, ...]] = ("replay",)
    # fmt: off
    fieldsets = (
        (None, {"fields": ("task_name", "full_id", "why", "full_detail", "problem")}),
        (gettext_lazy("Call"), {"fields": ("args", "kwargs", "workflow")}),
        (gettext_lazy("Delivery"), {"fields": ("of_queue", "priority", "deliveries", "holder", "died")}),
        (gettext_lazy("As it is stored"), {"fields": STORED_FIELDS, "classes": ("collapse",)}),
    )
    # fmt: on

    def get_queryset(self, request: HttpRequest) -> "QuerySet[DeadLetter]":
        """Without their contents in lists."""
        rows = super().get_queryset(request)
        match = request.resolver_match
        if match is not None and match.url_name == "django_tasks_deadletter_changelist" and request.method == "GET":
            rows = rows.defer("headers", "properties", "body")
        return rows

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Use the list that knows what is paused."""
        return PausesList

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list; say how long dead letters are kept."""
        kept = settings.DEAD_LETTER_EXPIRES
        subtitle = _("Kept %(time)s, or until they are replayed or deleted.") % {"time": lifetime(kept)} if kept else None
        subtitle = subtitle or _("Kept until they are replayed or deleted (DEAD_LETTER_EXPIRES is not set).")
        return super().changelist_view(request, {"subtitle": subtitle, **(extra_context or {})})

    @admin.display(description=gettext_lazy("queue"))
    def in_queue(self, row: DeadLetter) -> str:
        """The queue, marked if it is paused."""
        return mark(row, row.queue)

    @admin.display(description=gettext_lazy("queue"))
    def of_queue(self, row: DeadLetter) -> str:
        """The queue that it came from; if it is paused, by whom and why."""
        return tell(row, row.queue)

    @admin.display(description=gettext_lazy("worker"))
    def holder(self, row: DeadLetter) -> str:
        """The worker that gave it up."""
        return worker_link(row.worker)

    @admin.display(description=gettext_lazy("task"))
    def task_name(self, row: DeadLetter) -> str:
        """The task's name."""
        return row.task or _("(no task named)")

    @admin.display(description=gettext_lazy("task id"))
    def short_id(self, row: DeadLetter) -> str:
        """The id of the call."""
        return short(row.task_id)

    @admin.display(description=gettext_lazy("task id"))
    def full_id(self, row: DeadLetter) -> str:
        """The id of the call, whole."""
        return mono(row.task_id)

    @admin.display(description=gettext_lazy("reason"))
    def why(self, row: DeadLetter) -> str:
        """The reason, in a word."""
        return badge(row.reason, tone="bad")

    @admin.display(description=gettext_lazy("detail"))
    def what(self, row: DeadLetter) -> str:
        """The last line of the detail, which of a traceback is the error."""
        lines = row.detail.strip().splitlines()
        return Truncator(lines[-1]).chars(80) if lines else EMPTY

    @admin.display(description=gettext_lazy("detail"))
    def full_detail(self, row: DeadLetter) -> str:
        """All that was said when it died."""
        return code(row.detail, wrap=True)

    @admin.display(description=gettext_lazy("died at"), ordering="died_at")
    def died_lately(self, row: DeadLetter) -> str:
        """When it was given up, for lists."""
        return recent(row.died_at)

    @admin.display(description=gettext_lazy("died at"))
    def died(self, row: DeadLetter) -> str:
        """When it was given up."""
        return moment(row.died_at)

    def has_replay_permission(self, request: HttpRequest) -> bool:
        """Whether the user may replay dead letters."""
        return self.may(request, "replay_deadletter")

    @admin.action(description=gettext_lazy("Replay selected dead letters"), permissions=["replay"])
    def replay(self, request: HttpRequest, queryset: "QuerySet[DeadLetter]") -> HttpResponse | None:
        """Send them again, as they were, to the queue they came from; ask first if they are many."""
        # defer() of the list and only() don't go together: start over.
        rows = list(queryset.defer(None).only("id", "task", "task_id", "reason"))
        if len(rows) > 1 and "confirmed" not in request.POST:
            question = _("%(count)d dead letters are sent again as they were, each to the queue that it came from.")
            button = _("Yes, replay %(count)d") % {"count": len(rows)}
            return self.ask(request, rows, "replay", title=_("Replay"), question=question % {"count": len(rows)}, button=button)
        try:
            count = deadletters.replay([row.pk for row in rows])
        except OperationalError as error:
            self.message_user(request, _("Nothing was replayed: %(error)s") % {"error": error}, messages.ERROR)
            return None
        reruns.note([(row.task_id, row.task_id) for row in rows if row.task_id], by=request.user.get_username())
        self.log_operation(request, rows, _("Replayed."))
        done = ngettext("%(count)d message was sent again.", "%(count)d messages were sent again.", count) % {"count": count}
        self.message_user(request, done, messages.SUCCESS if count else messages.WARNING)
        return None

    replay.button = gettext_lazy("Replay")  # type: ignore[attr-defined]  # read by OperatorAdmin
