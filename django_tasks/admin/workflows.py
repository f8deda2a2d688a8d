"""The page of a workflow: its picture, and its failed tasks to be run again."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_tasks.admin import asking
from django_tasks.admin.display import badge, link, page_of, seconds
from django_tasks.admin.drawing import draw
from django_tasks.exceptions import TaskError
from django_tasks.models import Rerun, TaskResult
from django_tasks.operations import reruns
from django_tasks.operations.calls import run_alone
from django_tasks.operations.resuming import failed_in, has_way_on, resume
from django_tasks.operations.workflows import Step, Workflow, workflow_of

if TYPE_CHECKING:
    from django_tasks.admin.rerunning import RerunningAdmin

#: In the address after something was run again: nothing is known of it until a worker has it.
FOLLOW = "follow"
#: The buttons by which nothing follows what runs again, and by which all that can runs again.
ON, ALONE, ALL = "on", "alone", "all"
#: Most failed tasks that the page lists.
LISTED = 200


def workflow_view(model_admin: "RerunningAdmin", request: HttpRequest, object_id: str) -> HttpResponse:
    """Show the workflow of a result; run the chosen failed tasks again when that is posted."""
    row = model_admin.get_object(request, unquote(object_id))
    if row is None:
        return model_admin._get_obj_does_not_exist_redirect(request, model_admin.opts, object_id)  # type: ignore[attr-defined,no-any-return]  # noqa: SLF001
    if not model_admin.has_view_permission(request, row):
        raise PermissionDenied
    workflow = workflow_of(row)
    if request.method == "POST":
        if not model_admin.has_rerun_permission(request):
            raise PermissionDenied
        asked = _answer(model_admin, request, workflow)
        return asked or HttpResponseRedirect(f"{request.path}?{FOLLOW}=1")
    failed = _listed(workflow.failed[:LISTED])
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "media": model_admin.media,
        "title": _("Workflow of %(task)s") % {"task": row.task_name or row.task_id},
        "original": row,
        "original_address": page_of("taskresult", row.pk),
        "picture": draw(workflow),
        "counts": [(badge(state), number) for state, number in workflow.counts().items()],
        "failed": failed,
        "repeatable": any(one["repeatable"] for one in failed),
        "ways_on": any(one["way_on"] for one in failed),
        "unfinished": workflow.unfinished or FOLLOW in request.GET,
        "more_failed": max(0, len(workflow.failed) - LISTED),
        "truncated": workflow.truncated,
        "may_rerun": model_admin.has_rerun_permission(request),
    }
    return TemplateResponse(request, "admin/django_tasks/workflow.html", context)


def _listed(steps: list[Step]) -> list[dict[str, object]]:
    # Of a task that failed because another one did, no arguments are there: it never started.
    kept = TaskResult.objects.filter(pk__in=[step.pk for step in steps], task_args__isnull=False, task_kwargs__isnull=False)
    repeatable = {row.pk: row for row in kept.exclude(task_name=None).exclude(task_name="").only("pk", "meta")}
    return [
        {
            "step": step,
            "link": link(page_of("taskresult", step.pk) if step.pk else None, step.task_id),
            "state": badge(step.status),
            "run_time": seconds(step.runtime),
            "repeatable": step.pk in repeatable,
            "way_on": step.pk in repeatable and has_way_on(repeatable[step.pk]),
        }
        for step in steps
    ]


def _answer(model_admin: "RerunningAdmin", request: HttpRequest, workflow: Workflow) -> HttpResponse | None:
    alone = ALONE in request.POST
    rows = failed_in(workflow) if ALL in request.POST else _chosen(workflow, set(request.POST.getlist("task")))
    if not rows:
        model_admin.message_user(request, _("Nothing was sent: choose failed tasks first."), messages.WARNING)
        return None
    earlier = reruns.reruns_of([row.task_id for row in rows])
    if not asking.knows(request, earlier) or (len(rows) > 1 and "confirmed" not in request.POST):
        return _ask_first(model_admin, request, rows, earlier)
    pairs = _each_alone(model_admin, request, rows) if alone else _all_going_on(model_admin, request, rows)
    if not pairs:
        return None
    sent = [row for row, _id in pairs]
    reruns.note([(row.task_id, new) for row, new in pairs], by=request.user.get_username())
    model_admin.log_operation(request, sent, _("Run again.") if alone else _("Run again, with what follows."))
    done = ngettext("%(count)d task was sent again.", "%(count)d tasks were sent again.", len(sent)) % {"count": len(sent)}
    model_admin.message_user(request, done, messages.SUCCESS)
    return None


def _ask_first(model_admin: "RerunningAdmin", request: HttpRequest, rows: Sequence[TaskResult], earlier: Sequence[Rerun]) -> HttpResponse:
    question = ngettext("%(count)d task of this workflow runs once more.", "%(count)d tasks of this workflow run once more.", len(rows))
    button = next(name for name in (ALONE, ALL, ON) if name in request.POST or name == ON)
    return model_admin.ask(
        request,
        rows,
        "run_again",
        title=_("Run again"),
        question=question % {"count": len(rows)},
        warning=asking.told(earlier),
        hidden=[(asking.KNOWN, len(earlier)), (button, "1"), *(("task", row.task_id) for row in rows)],
        button=_("Yes, run %(count)d again") % {"count": len(rows)},
        back=request.path,
    )


def _chosen(workflow: Workflow, task_ids: set[str]) -> list[TaskResult]:
    # Only what is failed in this workflow: the form may be old, or made up.
    return list(TaskResult.objects.filter(task_id__in=[step.task_id for step in workflow.failed if step.task_id in task_ids]))


def _each_alone(model_admin: "RerunningAdmin", request: HttpRequest, rows: Sequence[TaskResult]) -> list[tuple[TaskResult, str]]:
    sent = []
    for row in rows:
        try:
            new = run_alone(row)
        except TaskError as error:
            model_admin.message_user(request, str(error), messages.ERROR)
        else:
            sent.append((row, new))
    return sent


def _all_going_on(model_admin: "RerunningAdmin", request: HttpRequest, rows: Sequence[TaskResult]) -> list[tuple[TaskResult, str]]:
    try:
        ids = set(resume(rows))
    except (TaskError, NotImplementedError) as error:
        model_admin.message_user(request, str(error), messages.ERROR)
        return []
    return [(row, row.task_id) for row in rows if row.task_id in ids]
