"""The page of a workflow: its picture, and its failed tasks to be run again."""

from typing import TYPE_CHECKING

from django.contrib import messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_tasks.admin.display import badge, link, page_of, seconds
from django_tasks.admin.drawing import draw
from django_tasks.exceptions import TaskError
from django_tasks.models import TaskResult
from django_tasks.operations.calls import run_again, stored_call
from django_tasks.operations.workflows import Step, Workflow, workflow_of

if TYPE_CHECKING:
    from django_tasks.admin.results import TaskResultAdmin

#: Most failed tasks that the page lists.
LISTED = 200


def workflow_view(model_admin: "TaskResultAdmin", request: HttpRequest, object_id: str) -> HttpResponse:
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
        _run_again(model_admin, request, workflow, request.POST.getlist("task"))
        return HttpResponseRedirect(request.get_full_path())
    context = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "media": model_admin.media,
        "title": _("Workflow of %(task)s") % {"task": row.task_name or row.task_id},
        "original": row,
        "original_address": page_of("taskresult", row.pk),
        "picture": draw(workflow),
        "counts": [(badge(state), number) for state, number in workflow.counts().items()],
        "failed": [_listed(step) for step in workflow.failed[:LISTED]],
        "more_failed": max(0, len(workflow.failed) - LISTED),
        "truncated": workflow.truncated,
        "may_rerun": model_admin.has_rerun_permission(request),
    }
    return TemplateResponse(request, "admin/django_tasks/workflow.html", context)


def _listed(step: Step) -> dict[str, object]:
    return {
        "step": step,
        "link": link(page_of("taskresult", step.pk) if step.pk else None, step.task_id),
        "state": badge(step.status),
        "run_time": seconds(step.runtime),
    }


def _run_again(model_admin: "TaskResultAdmin", request: HttpRequest, workflow: Workflow, chosen: list[str]) -> None:
    # Only what is failed in this workflow: the form may be old, or made up.
    wanted = [step.task_id for step in workflow.failed if step.task_id in set(chosen)]
    sent: list[TaskResult] = []
    for row in TaskResult.objects.filter(task_id__in=wanted):
        try:
            run_again(stored_call(row))
        except TaskError as error:
            model_admin.message_user(request, str(error), messages.ERROR)
        else:
            sent.append(row)
    if not sent:
        model_admin.message_user(request, _("Nothing was sent: choose failed tasks first."), messages.WARNING)
        return
    model_admin.log_operation(request, sent, _("Run again."))
    done = ngettext("%(count)d task was sent again.", "%(count)d tasks were sent again.", len(sent)) % {"count": len(sent)}
    model_admin.message_user(request, done, messages.SUCCESS)
