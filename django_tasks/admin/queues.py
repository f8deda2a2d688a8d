"""Queues: how much waits in them, purge, pause, resume."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.formats import number_format
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_tasks.admin.display import EMPTY, badge, moment, recent
from django_tasks.admin.filters import PausedFilter
from django_tasks.admin.links import named, worker_link
from django_tasks.admin.operating import OperatorAdmin
from django_tasks.exceptions import TaskError
from django_tasks.models import Queue
from django_tasks.operations.queues import COUNTED, QueueOverview, enter, known_names, overview, pause, purge, resume
from django_tasks.operations.workers import alive

#: The longest name that the column takes.
_WIDTH = 255


class QueueList(ChangeList):
    """Knows what the broker says of each queue of the page."""

    def get_results(self, request: HttpRequest) -> None:
        """Ask the broker about the queues of this page, all at once."""
        super().get_results(request)
        rows: list[Any] = list(self.result_list)
        _attach(rows)
        self.result_list = rows  # the same rows, with what is known of them


def _attach(rows: Sequence[Queue]) -> None:
    try:
        known = {one.name: one for one in overview([row.name for row in rows])}
    except TaskError:
        known = {}
    for row in rows:
        row.__dict__["_overview"] = known.get(row.name)


def _overview_of(row: Queue) -> QueueOverview | None:
    if "_overview" not in row.__dict__:
        _attach([row])
    found: QueueOverview | None = row.__dict__["_overview"]
    return found


@admin.register(Queue)
class QueueAdmin(OperatorAdmin[Queue]):
    """Every queue that the broker, the settings or a worker knows."""

    list_display = ("name", "state", "waiting", "delayed", "workers", "paused_lately", "paused_by", "reason")
    list_filter = (PausedFilter,)
    search_fields = ("name",)
    ordering = ("name",)
    sortable_by = ("name",)
    actions = ("pause", "resume", "purge")
    object_actions: ClassVar[tuple[str, ...]] = ("pause", "resume", "purge")
    # fmt: off
    fieldsets = (
        (None, {"fields": ("name", "state", "waiting", "delayed", "workers", "consumers")}),
        (gettext_lazy("Pause"), {"fields": ("paused_since", "paused_by", "reason")}),
    )
    # fmt: on

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Use the list that asks the broker."""
        return QueueList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Queue | None:
        """Find a queue by its number, or by its name, as links on other pages have it."""
        name = named(object_id)
        if name is None:
            return super().get_object(request, object_id, from_field)
        if len(name) <= _WIDTH:
            enter([name])
        return self.get_queryset(request).filter(name=name).first()

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Enter queues that were not known before, then show all."""
        if request.method == "GET" and self.has_view_permission(request):
            try:
                enter(known_names())
            except TaskError as error:
                self.message_user(request, _("The broker can't be asked: %(error)s") % {"error": error}, messages.ERROR)
        return super().changelist_view(request, extra_context)

    @admin.display(description=gettext_lazy("state"), ordering="paused_at")
    def state(self, row: Queue) -> str:
        """Open or paused."""
        return badge("paused", _("paused"), "warn") if row.paused_at else badge("open", _("open"), "good")

    @admin.display(description=gettext_lazy("waiting"))
    def waiting(self, row: Queue) -> str:
        """How many messages wait, delayed ones included."""
        return _number(_overview_of(row), lambda found: found.size)

    @admin.display(description=gettext_lazy("of these delayed"))
    def delayed(self, row: Queue) -> str:
        """How many of them are not due yet."""
        return _number(_overview_of(row), lambda found: found.delayed)

    @admin.display(description=gettext_lazy("workers"))
    def workers(self, row: Queue) -> str:
        """How many living workers take messages from it."""
        found = _overview_of(row)
        if found is not None and not found.workers and found.size:
            return badge("none", _("none"), "bad")
        return _number(found, lambda known: known.workers)

    @admin.display(description=gettext_lazy("living workers"))
    def consumers(self, row: Queue) -> str:
        """The workers that take messages from it, or would if it weren't paused."""
        names = [name for name, queues in alive().values_list("name", "queues").order_by("name") if row.name in (queues or ())]
        shown = format_html_join(", ", "{}", ((worker_link(name),) for name in names))
        if not names or row.paused_at is None:
            return shown or EMPTY
        return format_html("{} {}", shown, _("(would take from it, were it not paused)"))

    @admin.display(description=gettext_lazy("paused since"), ordering="paused_at")
    def paused_lately(self, row: Queue) -> str:
        """When it was paused, for lists."""
        return recent(row.paused_at)

    @admin.display(description=gettext_lazy("paused since"))
    def paused_since(self, row: Queue) -> str:
        """When it was paused."""
        return moment(row.paused_at)

    # -- permissions

    def has_purge_permission(self, request: HttpRequest) -> bool:
        """Whether the user may purge queues."""
        return self.may(request, "purge_queue")

    def has_pause_permission(self, request: HttpRequest) -> bool:
        """Whether the user may pause and resume queues."""
        return self.may(request, "pause_queue")

    def has_delete_permission(self, request: HttpRequest, obj: Queue | None = None) -> bool:
        """A paused queue's row stays: deleting it would resume the queue."""
        return super().has_delete_permission(request, obj) and (obj is None or obj.paused_at is None)

    def undeletable(self, rows: Sequence[Queue]) -> list[str]:
        """Paused queues stay."""
        return [_("%(queue)s is paused; resume it first") % {"queue": row} for row in rows if row.paused_at]

    def offered(self, request: HttpRequest, obj: Queue) -> Iterable[str]:
        """Pause or resume, and purge."""
        return ("resume", "purge") if obj.paused_at else ("pause", "purge")

    # -- actions

    @admin.action(description=gettext_lazy("Pause selected queues"), permissions=["pause"])
    def pause(self, request: HttpRequest, queryset: "QuerySet[Queue]") -> HttpResponse | None:
        """Ask for a reason; then let workers take nothing more from them."""
        if "confirmed" not in request.POST:
            return self.ask(
                request,
                queryset,
                "pause",
                title=_("Pause queues"),
                question=_("Workers take nothing more from these queues, within two seconds. What runs is finished, what is sent waits."),
                asks_reason=True,
                button=_("Pause"),
            )
        rows = list(queryset.filter(paused_at__isnull=True))
        reason = request.POST.get("reason", "").strip()
        count = pause([row.name for row in rows], by=request.user.get_username(), reason=reason)
        self.log_operation(request, rows, _("Paused: %(reason)s") % {"reason": reason} if reason else _("Paused."))
        done = ngettext("%(count)d queue was paused.", "%(count)d queues were paused.", count) % {"count": count}
        self.message_user(request, done, messages.SUCCESS if count else messages.WARNING)
        return None

    pause.button = gettext_lazy("Pause…")  # type: ignore[attr-defined]  # read by OperatorAdmin

    @admin.action(description=gettext_lazy("Resume selected queues"), permissions=["pause"])
    def resume(self, request: HttpRequest, queryset: "QuerySet[Queue]") -> None:
        """Let workers take from them again."""
        rows = list(queryset.filter(paused_at__isnull=False))
        count = resume([row.name for row in rows])
        self.log_operation(request, rows, _("Resumed."))
        done = ngettext("%(count)d queue was resumed.", "%(count)d queues were resumed.", count) % {"count": count}
        self.message_user(request, done, messages.SUCCESS if count else messages.WARNING)

    resume.button = gettext_lazy("Resume")  # type: ignore[attr-defined]

    @admin.action(description=gettext_lazy("Purge selected queues"), permissions=["purge"])
    def purge(self, request: HttpRequest, queryset: "QuerySet[Queue]") -> HttpResponse | None:
        """Ask; then delete what waits in them."""
        rows = list(queryset)
        if "confirmed" not in request.POST:
            _attach(rows)
            return self.ask(
                request,
                rows,
                "purge",
                title=_("Purge queues"),
                question=_("Every message that waits in these queues is deleted, delayed ones too, for good. What runs is left alone."),
                details=[(row.name, self.waiting(row)) for row in rows],
                button=_("Yes, delete these messages"),
                dangerous=True,
            )
        try:
            lost = purge([row.name for row in rows])
        except TaskError as error:
            self.message_user(request, str(error), messages.ERROR)
            return None
        for row in rows:
            self.log_operation(request, [row], _("Purged: %(count)d messages deleted.") % {"count": lost[row.name]})
        count = sum(lost.values())
        done = ngettext("%(count)d message was deleted.", "%(count)d messages were deleted.", count) % {"count": count}
        self.message_user(request, done, messages.SUCCESS)
        return None

    purge.button = gettext_lazy("Purge…")  # type: ignore[attr-defined]


def _number(found: QueueOverview | None, part: Callable[[QueueOverview], int | None]) -> str:
    value = None if found is None else part(found)
    if value is None:
        return EMPTY
    return f"{number_format(value)}+" if value >= COUNTED else number_format(value)
