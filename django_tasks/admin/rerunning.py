"""Running the calls of results again: at once for one from the list, after a question for more, with a form on a result's page.

A call that was run again before is never made a third time without a question, however quickly a button is pressed twice.
"""

from collections.abc import Collection
from functools import partial

from django.contrib import admin, messages
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_tasks.admin.asking import KNOWN, knows, told
from django_tasks.admin.display import page_of
from django_tasks.admin.operating import OperatorAdmin
from django_tasks.admin.runagain import RunAgainForm
from django_tasks.admin.workflows import workflow_view
from django_tasks.exceptions import TaskError
from django_tasks.models import Rerun, TaskResult
from django_tasks.operations import reruns
from django_tasks.operations.calls import UNSENDABLE, NotRepeatable, StoredCall, run_again, run_all_again, stored_call
from django_tasks.operations.contents import pretty_text

#: Calls that can't be sent again of which it is said why.
MOST_TOLD = 10


class RerunningAdmin(OperatorAdmin[TaskResult]):
    """The part of the admin of results that runs calls again."""

    def has_rerun_permission(self, request: HttpRequest) -> bool:
        """Whether the user may run tasks again."""
        return self.may(request, "rerun_taskresult")

    @admin.action(description=gettext_lazy("Run selected tasks again"), permissions=["rerun"])
    def run_again(self, request: HttpRequest, queryset: "QuerySet[TaskResult]") -> HttpResponse | None:
        """Send the stored calls once more; ask first if they are many. On an object's page, ask for other arguments first."""
        match = request.resolver_match
        if match is not None and match.url_name == "django_tasks_taskresult_do":
            return HttpResponseRedirect(reverse(f"{self.admin_site.name}:django_tasks_taskresult_again", args=[queryset.get().pk]))
        rows = list(queryset.defer("result", "traceback", "meta"))
        earlier = reruns.reruns_of([row.task_id for row in rows])
        if not knows(request, earlier) or (len(rows) > 1 and "confirmed" not in request.POST):
            return self._ask_first(request, rows, earlier)
        try:
            sent, refused = run_all_again(rows)
        except TaskError as error:
            sent, refused = [], [str(error)]
        self._tell(request, sent, refused)
        return None

    run_again.button = gettext_lazy("Run again…")  # type: ignore[attr-defined]  # read by OperatorAdmin

    def _ask_first(self, request: HttpRequest, rows: list[TaskResult], earlier: Collection[Rerun]) -> HttpResponse:
        question = ngettext(
            "%(count)d task is sent once more, with the arguments that it had, under a new id.",
            "%(count)d tasks are sent once more, with the arguments that they had, under new ids.",
            len(rows),
        )
        return self.ask(
            request,
            rows,
            "run_again",
            title=_("Run again"),
            question=question % {"count": len(rows)},
            warning=told(earlier),
            hidden=[(KNOWN, len(earlier))],
            button=_("Yes, run %(count)d again") % {"count": len(rows)},
        )

    def _tell(self, request: HttpRequest, sent: list[tuple[TaskResult, str]], refused: list[str]) -> None:
        for reason in refused[:MOST_TOLD]:
            self.message_user(request, reason, messages.ERROR)
        if (more := len(refused) - MOST_TOLD) > 0:
            self.message_user(request, _("… and %(more)d more were not sent.") % {"more": more}, messages.ERROR)
        if not sent:
            return
        reruns.note([(row.task_id, new) for row, new in sent], by=request.user.get_username())
        self.log_operation(request, [row for row, _id in sent], _("Run again."))
        done = ngettext("%(count)d task was sent again.", "%(count)d tasks were sent again.", len(sent)) % {"count": len(sent)}
        self.message_user(request, done, messages.SUCCESS)

    # -- with other arguments

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
        earlier = reruns.reruns_of([row.task_id])
        if request.method == "POST" and form.is_valid() and knows(request, earlier) and (sent := self._send(request, row, form)):
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
            "told": told(earlier),
            "known": (KNOWN, len(earlier)),
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
        reruns.note([(row.task_id, task_id)], by=request.user.get_username())
        self.log_operation(request, [row], _("Run again as %(id)s.") % {"id": task_id})
        self.message_user(request, _("%(task)s was sent again as %(id)s.") % {"task": row.task_name, "id": task_id}, messages.SUCCESS)
        return HttpResponseRedirect(page_of("taskresult", row.pk) or self.list_address())
