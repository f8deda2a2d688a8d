"""Results: look, search, run again, revoke, delete."""

import json
from collections.abc import Iterable
from functools import partial
from typing import ClassVar

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Max, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_tasks import states
from django_tasks.admin.display import EMPTY, badge, code, link, moment, mono, page_of, progress_bar, recent, seconds, short
from django_tasks.admin.filters import QueueFilter, StateFilter, TaskNameFilter, WorkerFilter
from django_tasks.admin.operating import OperatorAdmin
from django_tasks.admin.runagain import RunAgainForm
from django_tasks.admin.workflows import workflow_view
from django_tasks.exceptions import TaskError
from django_tasks.models import GroupResult, TaskResult
from django_tasks.operations.calls import (
    UNSENDABLE,
    NotRepeatable,
    StoredCall,
    revoke,
    run_again,
    run_all_again,
    stored_call,
)
from django_tasks.operations.contents import cut, pretty_text
from django_tasks.operations.workflows import belongs_to_others

#: Newest results that a search for a name or an argument reads; no index could help it.
SEARCHED = 200_000
#: Calls that can't be sent again of which it is said why.
MOST_TOLD = 10


@admin.register(TaskResult)
class TaskResultAdmin(OperatorAdmin[TaskResult]):
    """What became of each task."""

    list_display = ("task", "short_id", "state", "run_time", "recorded", "finished", "queue", "worker")
    list_display_links = ("task", "short_id")
    list_filter = (StateFilter, TaskNameFilter, QueueFilter, WorkerFilter, ("date_done", admin.DateFieldListFilter))
    search_fields = ("task_name", "task_args", "task_kwargs", "=group_id", "=root_id", "=parent_id")
    search_help_text = gettext_lazy(
        "A task id finds its result at once; anything else is looked for in names and arguments of the newest results."
    )
    ordering = ("-id",)
    sortable_by = ("recorded", "finished")
    actions = ("run_again", "revoke", "terminate")
    object_actions: ClassVar[tuple[str, ...]] = ("run_again", "revoke", "terminate")
    # fmt: off
    fieldsets = (
        (None, {"fields": ("task", "full_id", "state", "outcome", "traceback_text")}),
        (gettext_lazy("Call"), {"fields": ("args", "kwargs", "periodic_task_name", "queue", "worker", "retries")}),
        (gettext_lazy("Times"), {"fields": ("created", "started", "done", "run_time")}),
        (gettext_lazy("Workflow"), {"fields": ("workflow", "parent", "root", "group", "children"), "classes": ("collapse",)}),
        (gettext_lazy("Also kept"), {"fields": ("more", "content"), "classes": ("collapse",)}),
    )
    # fmt: on

    # -- lists

    def get_queryset(self, request: HttpRequest) -> "QuerySet[TaskResult]":
        """Leave the long texts out of lists: a page of results may be megabytes otherwise."""
        rows = super().get_queryset(request)
        match = request.resolver_match
        if match is not None and match.url_name == "django_tasks_taskresult_changelist" and request.method == "GET":
            rows = rows.defer("result", "traceback", "meta", "task_args", "task_kwargs")
        return rows

    def get_search_results(
        self, request: HttpRequest, queryset: "QuerySet[TaskResult]", search_term: str
    ) -> "tuple[QuerySet[TaskResult], bool]":
        """Try the term as an id first; else look through the newest results."""
        term = search_term.strip()
        if not term:
            return queryset, False
        if TaskResult.objects.filter(task_id=term).exists():
            return queryset.filter(task_id=term), False
        newest = TaskResult.objects.aggregate(newest=Max("pk"))["newest"] or 0
        return super().get_search_results(request, queryset.filter(pk__gt=newest - SEARCHED), term)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> TaskResult | None:
        """Find a row by its number, or by the task's id."""
        if not from_field and not object_id.isdecimal():
            return self.get_queryset(request).filter(task_id=object_id).first()
        return super().get_object(request, object_id, from_field)

    # -- columns and fields

    @admin.display(description=gettext_lazy("task"))
    def task(self, row: TaskResult) -> str:
        """The task's name."""
        return row.task_name or _("(name not kept)")

    @admin.display(description=gettext_lazy("task id"))
    def short_id(self, row: TaskResult) -> str:
        """The beginning of the id."""
        return short(row.task_id)

    @admin.display(description=gettext_lazy("task id"))
    def full_id(self, row: TaskResult) -> str:
        """The id."""
        return mono(row.task_id)

    @admin.display(description=gettext_lazy("state"))
    def state(self, row: TaskResult) -> str:
        """The state, coloured."""
        return badge(row.status)

    @admin.display(description=gettext_lazy("run time"))
    def run_time(self, row: TaskResult) -> str:
        """How long it ran."""
        return seconds(row.runtime)

    @admin.display(description=gettext_lazy("created"), ordering="id")
    def recorded(self, row: TaskResult) -> str:
        """When the row was made; ids grow with it, and have an index."""
        return recent(row.date_created)

    @admin.display(description=gettext_lazy("done"), ordering="date_done")
    def finished(self, row: TaskResult) -> str:
        """When it was done, for lists."""
        return recent(row.date_done)

    @admin.display(description=gettext_lazy("created"))
    def created(self, row: TaskResult) -> str:
        """When it was first heard of."""
        return moment(row.date_created)

    @admin.display(description=gettext_lazy("started"))
    def started(self, row: TaskResult) -> str:
        """When it started to run."""
        return moment(row.date_started)

    @admin.display(description=gettext_lazy("done"))
    def done(self, row: TaskResult) -> str:
        """When it was done."""
        return moment(row.date_done)

    @admin.display(description=gettext_lazy("result"))
    def outcome(self, row: TaskResult) -> str:
        """The return value, or the error, as JSON; how far a task has come that says so, as a bar."""
        return progress_bar(row.status, row.result) or code(pretty_text(row.result))

    @admin.display(description=gettext_lazy("traceback"))
    def traceback_text(self, row: TaskResult) -> str:
        """Where it failed."""
        return code(cut(row.traceback or ""))

    @admin.display(description=gettext_lazy("positional arguments"))
    def args(self, row: TaskResult) -> str:
        """The positional arguments as JSON."""
        return code(pretty_text(row.task_args))

    @admin.display(description=gettext_lazy("named arguments"))
    def kwargs(self, row: TaskResult) -> str:
        """The named arguments as JSON."""
        return code(pretty_text(row.task_kwargs))

    @admin.display(description=gettext_lazy("meta"))
    def more(self, row: TaskResult) -> str:
        """What else is known, as JSON."""
        return code(pretty_text(row.meta))

    @admin.display(description=gettext_lazy("form of the result"))
    def content(self, row: TaskResult) -> str:
        """Content type and encoding of the stored result."""
        return f"{row.content_type}, {row.content_encoding}"

    @admin.display(description=gettext_lazy("picture"))
    def workflow(self, row: TaskResult) -> str:
        """The way to the picture, for a task that has relatives."""
        if not belongs_to_others(row):
            return EMPTY
        address = reverse(f"{self.admin_site.name}:django_tasks_taskresult_workflow", args=[row.pk])
        return format_html('<a href="{}">{}</a>', address, _("The whole workflow"))

    @admin.display(description=gettext_lazy("called by"))
    def parent(self, row: TaskResult) -> str:
        """The task that sent this one."""
        return _links([row.parent_id])

    @admin.display(description=gettext_lazy("first task"))
    def root(self, row: TaskResult) -> str:
        """The task that the workflow began with."""
        return EMPTY if row.root_id == row.task_id else _links([row.root_id])

    @admin.display(description=gettext_lazy("group"))
    def group(self, row: TaskResult) -> str:
        """The group it is a member of."""
        known = GroupResult.objects.filter(group_id=row.group_id).first() if row.group_id else None
        return link(page_of("groupresult", known.pk), known.group_id) if known else mono(row.group_id)

    @admin.display(description=gettext_lazy("sent by it"))
    def children(self, row: TaskResult) -> str:
        """The tasks that it sent."""
        return _links(_child_ids(row))

    # -- actions

    def has_rerun_permission(self, request: HttpRequest) -> bool:
        """Whether the user may run tasks again."""
        return self.may(request, "rerun_taskresult")

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Whether the user may revoke tasks."""
        return self.may(request, "revoke_taskresult")

    def offered(self, request: HttpRequest, obj: TaskResult) -> Iterable[str]:
        """Run again what is known; revoke what may still run; stop what runs."""
        if obj.task_name:
            yield "run_again"
        if obj.status not in states.READY_STATES:
            yield "revoke"
        if obj.status == states.STARTED:
            yield "terminate"

    @admin.action(description=gettext_lazy("Run selected tasks again"), permissions=["rerun"])
    def run_again(self, request: HttpRequest, queryset: "QuerySet[TaskResult]") -> HttpResponse | None:
        """Send the stored calls once more; on an object's page, ask for other arguments first."""
        match = request.resolver_match
        if match is not None and match.url_name == "django_tasks_taskresult_do":
            return HttpResponseRedirect(reverse(f"{self.admin_site.name}:django_tasks_taskresult_again", args=[queryset.get().pk]))
        try:
            sent, refused = run_all_again(queryset.defer("result", "traceback", "meta"))
        except TaskError as error:
            sent, refused = [], [str(error)]
        for reason in refused[:MOST_TOLD]:
            self.message_user(request, reason, messages.ERROR)
        if (more := len(refused) - MOST_TOLD) > 0:
            self.message_user(request, _("… and %(more)d more were not sent.") % {"more": more}, messages.ERROR)
        if sent:
            self.log_operation(request, sent, _("Run again."))
            done = ngettext("%(count)d task was sent again.", "%(count)d tasks were sent again.", len(sent)) % {"count": len(sent)}
            self.message_user(request, done, messages.SUCCESS)
        return None

    run_again.button = gettext_lazy("Run again…")  # type: ignore[attr-defined]  # read by OperatorAdmin

    @admin.action(description=gettext_lazy("Revoke selected tasks"), permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: "QuerySet[TaskResult]") -> None:
        """Let no worker start them any more."""
        self._revoke(request, queryset, terminate=False)

    revoke.button = gettext_lazy("Revoke")  # type: ignore[attr-defined]

    @admin.action(description=gettext_lazy("Revoke selected tasks and stop those that run"), permissions=["revoke"])
    def terminate(self, request: HttpRequest, queryset: "QuerySet[TaskResult]") -> None:
        """Let no worker start them any more, and stop those that run."""
        self._revoke(request, queryset, terminate=True)

    terminate.button = gettext_lazy("Stop")  # type: ignore[attr-defined]

    def _revoke(self, request: HttpRequest, queryset: "QuerySet[TaskResult]", *, terminate: bool) -> None:
        rows = list(queryset.exclude(status__in=states.READY_STATES).only("id", "task_id", "task_name", "status"))
        if not rows:
            self.message_user(request, _("Nothing was revoked: these tasks are done."), messages.WARNING)
            return
        revoke([row.task_id for row in rows], by=request.user.get_username(), terminate=terminate)
        self.log_operation(request, rows, _("Revoked and stopped.") if terminate else _("Revoked."))
        done = ngettext("%(count)d task was revoked.", "%(count)d tasks were revoked.", len(rows)) % {"count": len(rows)}
        self.message_user(request, done, messages.SUCCESS)

    # -- running again with other arguments

    def get_urls(self) -> list[URLPattern]:
        """Add the page that asks for the arguments, and the picture of the workflow."""
        again = self.admin_site.admin_view(self.run_again_view)
        workflow = self.admin_site.admin_view(partial(workflow_view, self))
        return [
            path("<path:object_id>/again/", again, name="django_tasks_taskresult_again"),
            path("<path:object_id>/workflow/", workflow, name="django_tasks_taskresult_workflow"),
            *super().get_urls(),
        ]

    def run_again_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the stored arguments for editing; send the call when they are posted."""
        row = self.get_object(request, unquote(object_id))
        if row is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined,no-any-return]
        if not self.has_rerun_permission(request) or not self.has_view_permission(request, row):
            raise PermissionDenied
        form, warning = self._run_again_form(request, row)
        if request.method == "POST" and form.is_valid() and (sent := self._send(request, row, form)):
            return sent
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "media": self.media,
            "title": _("Run again: %(task)s") % {"task": row.task_name},
            "original": row,
            "original_address": page_of("taskresult", row.pk),
            "form": form,
            "warning": warning,
        }
        return TemplateResponse(request, "admin/django_tasks/run_again.html", context)

    def _run_again_form(self, request: HttpRequest, row: TaskResult) -> tuple[RunAgainForm, str]:
        if request.method == "POST":
            return RunAgainForm(request.POST), ""
        try:
            stored_call(row)
        except NotRepeatable as error:
            return RunAgainForm(initial={"queue": row.queue or ""}), str(error)
        initial = {"args": pretty_text(row.task_args), "kwargs": pretty_text(row.task_kwargs), "queue": row.queue or ""}
        return RunAgainForm(initial=initial), ""

    def _send(self, request: HttpRequest, row: TaskResult, form: RunAgainForm) -> HttpResponse | None:
        call = StoredCall(row.task_name or "", form.cleaned_data["args"], form.cleaned_data["kwargs"], form.cleaned_data["queue"] or None)
        try:
            task_id = run_again(call)
        except UNSENDABLE as error:
            form.add_error(None, str(error))
            return None
        self.log_operation(request, [row], _("Run again as %(id)s.") % {"id": task_id})
        self.message_user(request, _("%(task)s was sent again as %(id)s.") % {"task": row.task_name, "id": task_id}, messages.SUCCESS)
        return HttpResponseRedirect(page_of("taskresult", row.pk) or self.list_address())


def _child_ids(row: TaskResult) -> list[str]:
    # Celery's result tuples, [[id, parent], None or [members]]; whoever wrote them, the page must open.
    try:
        found = json.loads(row.meta or "{}").get("children") or []
        return [str(child[0][0]) for child in found]
    except (ValueError, AttributeError, TypeError, IndexError, KeyError):
        return []


def _links(task_ids: Iterable[str | None]) -> SafeString | str:
    """Link each task to its result, if there is one."""
    wanted = [task_id for task_id in task_ids if task_id]
    if not wanted:
        return EMPTY
    found = {row.task_id: row for row in TaskResult.objects.filter(task_id__in=wanted[:200]).only("id", "task_id", "task_name", "status")}
    lines = []
    for task_id in wanted[:200]:
        row = found.get(task_id)
        if row is None:
            lines.append((mono(task_id), "", ""))
        else:
            lines.append((link(page_of("taskresult", row.pk), task_id), row.task_name or "", badge(row.status)))
    return format_html_join("", "<div>{} {} {}</div>", lines)


@admin.register(GroupResult)
class GroupResultAdmin(OperatorAdmin[GroupResult]):
    """Saved groups and their members."""

    list_display = ("group_id", "date_created", "date_done")
    search_fields = ("=group_id",)
    ordering = ("-id",)
    fields = ("group_id", "members", "date_created", "date_done")

    @admin.display(description=gettext_lazy("members"))
    def members(self, row: GroupResult) -> str:
        """The members, linked to their results."""
        return _links(_member_ids(row.result)) if row.result else EMPTY


def _member_ids(text: str) -> list[str]:
    try:
        return [str(member[0][0]) for member in json.loads(text)]
    except (ValueError, TypeError, IndexError, KeyError):
        return []
