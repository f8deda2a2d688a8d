"""Results: look, search, run again, revoke, delete."""

import json
from collections.abc import Iterable
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.utils import quote, unquote
from django.db.models import Max, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils.text import smart_split, unescape_string_literal
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_tasks import states
from django_tasks.admin.display import EMPTY, lifetime, page_of
from django_tasks.admin.filters import QueueFilter, StateFilter, TaskNameFilter, WorkerFilter
from django_tasks.admin.operating import OperatorAdmin
from django_tasks.admin.rerunning import RerunningAdmin
from django_tasks.admin.resultfields import ResultFields, links_to
from django_tasks.admin.revoking import RevokingAdmin
from django_tasks.admin.searching import is_beginning
from django_tasks.exceptions import TaskError
from django_tasks.models import GroupResult, TaskResult
from django_tasks.operations import results
from django_tasks.operations.times import is_running
from django_tasks.serializers import dumps_json

#: Newest results that a search for a name or an argument reads; no index could help it.
SEARCHED = 200_000
#: States whose result is an exception.
_WITH_ERRORS = (states.FAILURE, states.RETRY, states.REVOKED, states.REJECTED)


def _by_beginning(term: str) -> Q:
    """Ids that begin like this, as lists show them."""
    shown = is_beginning(term)
    return Q(task_id__startswith=shown) if shown else Q(pk__in=())


def _by_error(term: str) -> Q:
    """Failures that say each of these words; their texts are JSON."""
    words = [Q(result__icontains=dumps_json(unescape_quoted(word))[1:-1]) for word in smart_split(term)]
    return Q(*words, status__in=_WITH_ERRORS)


def unescape_quoted(word: str) -> str:
    """Take the quotation marks from a phrase."""
    return unescape_string_literal(word) if word[0] in {'"', "'"} and len(word) > 1 and word[0] == word[-1] else word


def is_row(result: TaskResult) -> bool:
    """Whether a result is a row; others come from a result backend that is elsewhere."""
    return isinstance(result.pk, int)


def _whereabouts(place: str | None) -> str:
    kept = _("Kept %(time)s; failures %(failed)s.") % {"time": lifetime(results.of_results()), "failed": lifetime(results.of_failures())}
    if place is None:
        return kept
    found = _("Results are in %(place)s and are not listed here; a search for a whole task id finds one there.") % {"place": place}
    return f"{found} {kept}"


@admin.register(TaskResult)
class TaskResultAdmin(ResultFields, RerunningAdmin, RevokingAdmin[TaskResult]):
    """What became of each task."""

    list_display = ("task", "state", "short_id", "run_time", "recorded", "waited", "finished", "in_queue", "at_worker")
    list_display_links = ("task", "short_id")
    list_filter = (StateFilter, TaskNameFilter, QueueFilter, WorkerFilter, ("date_done", admin.DateFieldListFilter))
    search_fields = ("task_name", "task_args", "task_kwargs", "periodic_task_name", "=group_id", "=root_id", "=parent_id")
    search_help_text = gettext_lazy(
        "A task id finds its result at once; anything else is looked for in the newest results: the beginning of an id, names of tasks and"
        " schedules, arguments, and what failed tasks say: the class and the text of the error."
    )
    ordering = ("-id",)
    sortable_by = ("recorded", "finished")
    actions = ("run_again", "revoke", "terminate")
    object_actions: ClassVar[tuple[str, ...]] = ("run_again", "revoke", "terminate")
    # fmt: off
    fieldsets = (
        (None, {"fields": ("task", "full_id", "state", "outcome", "traceback_text")}),
        (gettext_lazy("Call"), {"fields": ("args", "kwargs", "schedule", "in_queue", "at_worker", "retries", "again", "origin")}),
        (gettext_lazy("Times"), {"fields": ("created", "waited", "started", "run_time", "done")}),
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
        near = queryset.filter(pk__gt=newest - SEARCHED)
        found, duplicates = super().get_search_results(request, near, term)
        return found | near.filter(_by_beginning(term) | _by_error(term)), duplicates

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> TaskResult | None:
        """Find a row by its number, or by the task's id."""
        if not from_field and not object_id.isdecimal():
            return self.get_queryset(request).filter(task_id=object_id).first() or self._elsewhere(request, object_id)
        return super().get_object(request, object_id, from_field)

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list, and say where results are and for how long; an id that is kept elsewhere leads to its page."""
        place = results.elsewhere()
        term = request.GET.get("q", "").strip()
        if place is not None and term and self.has_view_permission(request) and self._elsewhere(request, term) is not None:
            return HttpResponseRedirect(page_of("taskresult", quote(term)) or self.list_address())
        return super().changelist_view(request, {"subtitle": _whereabouts(place), **(extra_context or {})})

    def _elsewhere(self, request: HttpRequest, task_id: str) -> TaskResult | None:
        try:
            return results.found_elsewhere(task_id)
        except TaskError as error:
            self.message_user(request, _("The result backend can't be asked: %(error)s") % {"error": error}, messages.ERROR)
            return None

    def has_delete_permission(self, request: HttpRequest, obj: TaskResult | None = None) -> bool:
        """Rows only: what lies elsewhere goes by itself."""
        return super().has_delete_permission(request, obj) and (obj is None or is_row(obj))

    def object_action_view(self, request: HttpRequest, object_id: str, action: str) -> HttpResponse:
        """Run an action on a row; there are none for what lies elsewhere."""
        obj = self.get_object(request, unquote(object_id))
        if obj is not None and not is_row(obj):
            raise Http404
        return super().object_action_view(request, object_id, action)

    # -- actions

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Whether the user may revoke tasks."""
        return self.may(request, "revoke_taskresult")

    def offered(self, request: HttpRequest, obj: TaskResult) -> Iterable[str]:
        """Run again what is known; revoke and stop what is not done."""
        if not is_row(obj):
            return
        if obj.task_name:
            yield "run_again"
        if obj.status not in states.READY_STATES:
            yield from ("revoke", "terminate")

    def revocable(self, queryset: "QuerySet[TaskResult]") -> list[TaskResult]:
        """Return those that are not done."""
        return list(queryset.exclude(status__in=states.READY_STATES).only("id", "task_id", "task_name", "status", "worker"))

    def runner(self, row: TaskResult) -> str | None:
        """Name the worker of a task that has started."""
        return row.worker or "" if is_running(row) else None


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
        return links_to(_member_ids(row.result)) if row.result else EMPTY


def _member_ids(text: str) -> list[str]:
    try:
        return [str(member[0][0]) for member in json.loads(text)]
    except (ValueError, TypeError, IndexError, KeyError):
        return []
