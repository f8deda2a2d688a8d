"""The columns and fields by which a result is shown."""

import json
from collections.abc import Iterable

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_tasks.admin.display import EMPTY, badge, code, link, moment, mono, page_of, progress_bar, recent, seconds, short
from django_tasks.admin.links import queue_link, schedule_link, worker_link
from django_tasks.models import GroupResult, TaskResult
from django_tasks.operations import reruns, times
from django_tasks.operations.contents import cut, pretty_text
from django_tasks.operations.workflows import belongs_to_others

#: Reruns of one task that its page names.
MOST_RERUNS = 20


class ResultFields:
    """Mixed into the admin of results."""

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
        """How long it ran; of a task that runs, how long it has been running."""
        text = seconds(times.run_time(row))
        return _("%(time)s so far") % {"time": text} if times.is_running(row) and text != EMPTY else text

    @admin.display(description=gettext_lazy("waited"))
    def waited(self, row: TaskResult) -> str:
        """How long it waited from being sent to its start."""
        return seconds(times.waited(row.date_created, row.date_started))

    @admin.display(description=gettext_lazy("sent"), ordering="id")
    def recorded(self, row: TaskResult) -> str:
        """When it was sent, as far as its message said. Sorted by the row's number, which grows with it nearly and has an index."""
        return recent(row.date_created)

    @admin.display(description=gettext_lazy("done"), ordering="date_done")
    def finished(self, row: TaskResult) -> str:
        """When it was done, for lists."""
        return recent(row.date_done)

    @admin.display(description=gettext_lazy("sent"))
    def created(self, row: TaskResult) -> str:
        """When it was sent, as far as its message said; else when it was first heard of."""
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
        address = reverse("admin:django_tasks_taskresult_workflow", args=[row.pk])
        return format_html('<a href="{}">{}</a>', address, _("The whole workflow"))

    @admin.display(description=gettext_lazy("queue"))
    def in_queue(self, row: TaskResult) -> str:
        """The queue it came from."""
        return queue_link(row.queue)

    @admin.display(description=gettext_lazy("worker"))
    def at_worker(self, row: TaskResult) -> str:
        """The worker that ran it."""
        return worker_link(row.worker)

    @admin.display(description=gettext_lazy("periodic task"))
    def schedule(self, row: TaskResult) -> str:
        """The periodic task that it is a run of."""
        return schedule_link(row.periodic_task_name)

    @admin.display(description=gettext_lazy("run again"))
    def again(self, row: TaskResult) -> str:
        """When it was run again, by whom, and as which task."""
        lines = []
        for rerun in reruns.reruns_of([row.task_id])[-MOST_RERUNS:]:
            now = _("under its own id") if rerun.new_id == row.task_id else links_to([rerun.new_id])
            lines.append((moment(rerun.run_at), rerun.run_by, now))
        return format_html_join("", "<div>{} {} {}</div>", lines) or EMPTY

    @admin.display(description=gettext_lazy("run again from"))
    def origin(self, row: TaskResult) -> str:
        """The task that this one is another run of."""
        found = reruns.origin_of(row.task_id)
        if found is None:
            return EMPTY
        return format_html("{} {} {}", links_to([found.task_id]), moment(found.run_at), found.run_by)

    @admin.display(description=gettext_lazy("called by"))
    def parent(self, row: TaskResult) -> str:
        """The task that sent this one."""
        return links_to([row.parent_id])

    @admin.display(description=gettext_lazy("first task"))
    def root(self, row: TaskResult) -> str:
        """The task that the workflow began with."""
        return EMPTY if row.root_id == row.task_id else links_to([row.root_id])

    @admin.display(description=gettext_lazy("group"))
    def group(self, row: TaskResult) -> str:
        """The group it is a member of."""
        known = GroupResult.objects.filter(group_id=row.group_id).first() if row.group_id else None
        return link(page_of("groupresult", known.pk), known.group_id) if known else mono(row.group_id)

    @admin.display(description=gettext_lazy("sent by it"))
    def children(self, row: TaskResult) -> str:
        """The tasks that it sent."""
        return links_to(_child_ids(row))


def _child_ids(row: TaskResult) -> list[str]:
    # Celery's result tuples, [[id, parent], None or [members]]; whoever wrote them, the page must open.
    try:
        found = json.loads(row.meta or "{}").get("children") or []
        return [str(child[0][0]) for child in found]
    except (ValueError, AttributeError, TypeError, IndexError, KeyError):
        return []


def links_to(task_ids: Iterable[str | None]) -> SafeString | str:
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
