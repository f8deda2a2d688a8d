"""Queued messages of the database broker, and messages that any broker has parked here."""

from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_tasks import urls
from django_tasks.admin.contents import STORED_FIELDS, ContentFields
from django_tasks.admin.display import age, badge, moment, mono, recent, short
from django_tasks.admin.filters import MessageTaskFilter, QueueFilter
from django_tasks.admin.links import worker_link
from django_tasks.admin.pauses import PausesList, mark, tell
from django_tasks.admin.revoking import RevokingAdmin
from django_tasks.admin.searching import MessageSearchAdmin
from django_tasks.conf import settings
from django_tasks.models import Message, MessageState
from django_tasks.operations.queues import database_alias, message_rows, run_now


@admin.register(Message)
class MessageAdmin(ContentFields, MessageSearchAdmin[Message], RevokingAdmin[Message]):
    """What waits, what is delayed, what a worker holds."""

    list_display = ("task_name", "place", "short_id", "in_queue", "priority", "due", "deliveries", "waiting_for")
    list_display_links = ("task_name", "short_id")
    list_filter = (("state", admin.ChoicesFieldListFilter), QueueFilter, MessageTaskFilter)
    search_fields = ("=task_id", "task")
    search_help_text = gettext_lazy("A task's name, the id of one call or its beginning, or a part of the arguments.")
    ordering = ("-id",)
    sortable_by = ()
    actions = ("run_now", "revoke", "terminate")
    object_actions: ClassVar[tuple[str, ...]] = ("run_now", "revoke", "terminate")
    # fmt: off
    fieldsets = (
        (None, {"fields": ("task_name", "full_id", "place", "when", "problem")}),
        (gettext_lazy("Call"), {"fields": ("args", "kwargs", "workflow")}),
        (gettext_lazy("Delivery"), {"fields": ("of_queue", "priority", "deliveries", "holder", "created")}),
        (gettext_lazy("As it is stored"), {"fields": STORED_FIELDS, "classes": ("collapse",)}),
    )
    # fmt: on

    def get_queryset(self, request: HttpRequest) -> "QuerySet[Message]":
        """The rows of the broker's own database, or of the parking lot's; in lists without their contents."""
        rows = super().get_queryset(request).using(message_rows().db)
        match = request.resolver_match
        if match is not None and match.url_name == "django_tasks_message_changelist":
            rows = rows.defer("headers", "properties", "body")
        return rows

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list; with another broker than the database say what is not in it."""
        subtitle = None
        if database_alias() is None:
            where = urls.mask(settings.BROKER_URL)
            subtitle = _("What waits in %(broker)s is counted under Queues. Listed here is what waits here until it can be sent.")
            subtitle %= {"broker": where}
        return super().changelist_view(request, {"subtitle": subtitle, **(extra_context or {})})

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Use the list that knows what is paused."""
        return PausesList

    @admin.display(description=gettext_lazy("queue"))
    def in_queue(self, row: Message) -> str:
        """The queue, marked if it is paused."""
        return mark(row, row.queue)

    @admin.display(description=gettext_lazy("queue"))
    def of_queue(self, row: Message) -> str:
        """The queue; if it is paused, by whom and why."""
        return tell(row, row.queue)

    @admin.display(description=gettext_lazy("claimed by"))
    def holder(self, row: Message) -> str:
        """The worker that holds it."""
        return worker_link((row.claimed_by or "").rsplit("/", 2)[0])

    @admin.display(description=gettext_lazy("task"))
    def task_name(self, row: Message) -> str:
        """The task's name."""
        return row.task or _("(no task named)")

    @admin.display(description=gettext_lazy("task id"))
    def short_id(self, row: Message) -> str:
        """The id of the call."""
        return short(row.task_id)

    @admin.display(description=gettext_lazy("task id"))
    def full_id(self, row: Message) -> str:
        """The id of the call, whole."""
        return mono(row.task_id)

    @admin.display(description=gettext_lazy("state"))
    def place(self, row: Message) -> str:
        """Ready, claimed or delayed."""
        return badge(row.state, str(row.get_state_display()))

    @admin.display(description=gettext_lazy("until"))
    def due(self, row: Message) -> str:
        """When a delayed message falls due, or a worker's lease ends, for lists."""
        return recent(row.until)

    @admin.display(description=gettext_lazy("until"))
    def when(self, row: Message) -> str:
        """When a delayed message falls due, or a worker's lease ends."""
        return moment(row.until)

    @admin.display(description=gettext_lazy("age"))
    def waiting_for(self, row: Message) -> str:
        """How long ago it was published."""
        return age(row.created_at)

    @admin.display(description=gettext_lazy("created at"))
    def created(self, row: Message) -> str:
        """When it was published."""
        return moment(row.created_at)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Whether the user may revoke queued messages."""
        return self.may(request, "revoke_message")

    def has_promote_permission(self, request: HttpRequest) -> bool:
        """Whether the user may run delayed messages now."""
        return self.may(request, "promote_message")

    def offered(self, request: HttpRequest, obj: Message) -> Iterable[str]:
        """«Run now» for delayed messages, «Stop» for those that a worker holds."""
        if obj.state == MessageState.DELAYED:
            yield "run_now"
        yield "revoke"
        if obj.state == MessageState.CLAIMED:
            yield "terminate"

    @admin.action(description=gettext_lazy("Run selected delayed messages now"), permissions=["promote"])
    def run_now(self, request: HttpRequest, queryset: "QuerySet[Message]") -> None:
        """Make delayed messages due at once."""
        rows = list(_naming(queryset.filter(state=MessageState.DELAYED)))
        count = run_now(queryset)
        if not count:
            self.message_user(request, _("None of these messages is delayed."), messages.WARNING)
            return
        self.log_operation(request, rows, _("Made due at once."))
        done = ngettext("%(count)d message is due now.", "%(count)d messages are due now.", count) % {"count": count}
        self.message_user(request, done, messages.SUCCESS)

    run_now.button = gettext_lazy("Run now")  # type: ignore[attr-defined]  # read by OperatorAdmin

    def revocable(self, queryset: "QuerySet[Message]") -> list[Message]:
        """Return those that have an id."""
        return [row for row in queryset.defer(None).only("id", "task", "task_id", "state", "claimed_by") if row.task_id]

    def runner(self, row: Message) -> str | None:
        """Name the worker that holds a message: it runs the call, or is about to."""
        return (row.claimed_by or "").rsplit("/", 2)[0] if row.state == MessageState.CLAIMED else None


def _naming(rows: "QuerySet[Message]") -> Any:
    # defer() of the list and only() don't go together: start over.
    return rows.defer(None).only("id", "task", "task_id")
