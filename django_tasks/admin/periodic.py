"""Periodic tasks: django-celery-beat's pages, with our tasks to choose from, the next run, and «run now».

Importing needs django-celery-beat among the INSTALLED_APPS; the package imports this module only then.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Case, OuterRef, QuerySet, Subquery, Value, When
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django_celery_beat import admin as beat_admin
from django_celery_beat.models import CrontabSchedule, PeriodicTask, PeriodicTasks

from django_tasks import client, clock
from django_tasks.admin.display import EMPTY, badge, page_of, plain, seconds
from django_tasks.admin.display import moment as shown
from django_tasks.admin.schedules import fault_of, in_words
from django_tasks.beat import declared, rows, runs, starts
from django_tasks.beat.entries import BrokenEntryError, Entry, schedule_zone
from django_tasks.beat.leader import last_led, leading
from django_tasks.exceptions import OperationalError, TaskError
from django_tasks.messages import TaskMessage, new_id
from django_tasks.models import BeatRun, BeatStart
from django_tasks.models.times import aware
from django_tasks.registry import registry

#: Seconds that a run may be late before the list shows it in red: beat sends at once, and its rows are written a little later.
_GRACE = 30
#: Runs by hand that the message about them links.
_LINKED = 20
#: Runs to come that a task's own page shows.
_FORESEEN = 5
#: Crontabs whose meaning in words is sent along with the form; describing one takes a while.
_DESCRIBED = 200


def known_tasks() -> list[tuple[str, str]]:
    """Return the project's own tasks, as choices."""
    names = sorted(name for name in registry if not name.startswith("celery."))
    return [("", "---------"), *((name, name) for name in names)]


class PeriodicTaskForm(beat_admin.PeriodicTaskForm):  # type: ignore[misc]  # untyped
    """django-celery-beat's form; what the project's own registry knows is to choose from."""

    regtask = forms.ChoiceField(label=gettext_lazy("Task"), required=False, choices=known_tasks)
    task = forms.CharField(
        label=gettext_lazy("Other task"),
        required=False,
        max_length=200,
        help_text=gettext_lazy("The name of a task that this project doesn't have, for workers of another one."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # A registered task is shown as the choice that it is; then the text field is for other names only.
        if self.instance.pk and self.instance.task in registry and not self.is_bound:
            self.initial["regtask"], self.initial["task"] = self.instance.task, ""

    def clean(self) -> Any:
        """Refuse, beside what django-celery-beat refuses, a schedule that can't be."""
        if self.cleaned_data.get("regtask") and self.cleaned_data.get("task"):
            raise forms.ValidationError(_("Choose a task or write another one's name, not both."))
        data = super().clean()
        if not self.errors:
            self._check_schedule()
        return data

    def _check_schedule(self) -> None:
        for column in ("interval", "crontab", "solar", "clocked"):
            schedule = self.cleaned_data.get(column)
            if schedule is not None and (fault := fault_of(column, schedule)) is not None:
                self.add_error(column, fault)


def entry_of(row: PeriodicTask) -> Entry:
    """Read a row as beat does.

    Raises BrokenEntryError for one that can't be scheduled.
    """
    columns = rows.columns_of(row)
    first = rows.first_interval(columns)
    # The list and the form come with what is on record of the row; see get_queryset.
    on_record = first is not None and getattr(row, "began_every", None) == first[0]
    return rows.read(columns, zone=schedule_zone(), start=aware(row.began_since) if on_record else None)


def next_runs(row: PeriodicTask, count: int) -> list[datetime]:
    """Return the next due times of a row, from its last run on.

    Raises BrokenEntryError for one that can't be scheduled.
    """
    entry = entry_of(row)
    declaration = declared.declarations().get(row.name)
    if declaration is not None:
        found = declared.read(row.name, declaration, zone=schedule_zone(), since=clock.now(), pk=row.pk)
        if found is None:
            return []
        entry = found
    due: list[datetime] = []
    after = entry.since
    while after is not None and len(due) < count and (after := entry.next_run(after)) is not None:
        due.append(after)
        if entry.one_off:
            break
    return due


class PeriodicTaskAdmin(beat_admin.PeriodicTaskAdmin):  # type: ignore[misc]  # untyped
    """Periodic tasks, sent by ``runbeat`` or ``runworker -B``."""

    form = PeriodicTaskForm
    list_display = ("name", "enabled", "next_run", "task_name", "scheduler", "last_run", "total_run_count", "one_off")
    list_filter = ("enabled", "one_off", "task", "last_run_at")
    date_hierarchy = None
    # A project has as many clocked times as tasks at times: a list of all of them is no choice.
    raw_id_fields = ("clocked",)
    actions = ("run_tasks", "enable_tasks", "disable_tasks", "toggle_tasks")
    readonly_fields = (*beat_admin.PeriodicTaskAdmin.readonly_fields, "upcoming", "total_run_count")
    # fmt: off
    fieldsets = (
        (None, {"fields": ("name", "regtask", "task", "enabled", "description")}),
        (gettext_lazy("Schedule"), {"fields": (
            "interval", "crontab", "crontab_translation", "solar", "clocked", "start_time", "expires", "one_off",
        )}),
        (gettext_lazy("Runs"), {"fields": ("upcoming", "last_run_at", "total_run_count")}),
        (gettext_lazy("Arguments"), {"fields": ("args", "kwargs")}),
        (gettext_lazy("Execution options"), {
            "fields": ("expire_seconds", "queue", "exchange", "routing_key", "priority", "headers"), "classes": ("collapse",),
        }),
    )
    # fmt: on
    change_form_template = "admin/django_tasks/periodic_change_form.html"

    class Media:
        css = {"all": ["django_tasks/admin.css"]}

    # -- columns

    @admin.display(description=gettext_lazy("next run"))
    def next_run(self, row: PeriodicTask) -> SafeString | str:
        """When it is due next, or why it never is."""
        if not row.enabled:
            return EMPTY
        try:
            due = next_runs(row, 1)
        except BrokenEntryError as error:
            return badge("broken", str(error), "bad")
        if not due:
            return EMPTY
        return overdue(due[0]) or shown(due[0])

    @admin.display(description=gettext_lazy("task"), ordering="task")
    def task_name(self, row: PeriodicTask) -> SafeString | str:
        """The task's name, marked where this project has no such task."""
        if row.task in registry:
            return str(row.task)
        title = _("This project has no task of this name: only workers of another one can run it.")
        return format_html('{} <span title="{}">{}</span>', row.task, title, badge("unknown", _("not known here"), "bad"))

    @admin.display(description=gettext_lazy("last run"), ordering="last_run_at")
    def last_run(self, row: PeriodicTask) -> SafeString | str:
        """The due time of its last run."""
        return shown(row.last_run_at)

    @admin.display(description=gettext_lazy("next runs"))
    def upcoming(self, row: PeriodicTask) -> SafeString | str:
        """The next few due times."""
        if row.pk is None:
            return EMPTY
        try:
            due = next_runs(row, _FORESEEN)
        except BrokenEntryError as error:
            return badge("broken", str(error), "bad")
        lines = [overdue(moment) or shown(moment) if row.enabled else shown(moment) for moment in due]
        return format_html_join("", "{}<br>", ((line,) for line in lines)) or EMPTY

    @admin.display(description=gettext_lazy("crontab in words"))
    def crontab_translation(self, row: PeriodicTask) -> str:
        """The crontab, described."""
        return in_words(row.crontab) if row.crontab else EMPTY

    # -- actions

    @admin.action(description=gettext_lazy("Run selected periodic tasks now"), permissions=["change"])
    def run_tasks(self, request: HttpRequest, queryset: "QuerySet[PeriodicTask]") -> None:
        """Send each task once, with its arguments and options; its schedule stays as it is."""
        found, sendable = [], []
        for row in queryset:
            try:
                found.append(_message_now(entry_of(row)))
            except (BrokenEntryError, TypeError, ValueError) as error:
                self.message_user(request, _("%(name)s can't be sent: %(error)s") % {"name": row.name, "error": error}, messages.ERROR)
                continue
            sendable.append(row)
            if row.task not in registry:
                unknown = _("%(name)s is sent, but this project has no task named %(task)s: a worker must know it.")
                self.message_user(request, unknown % {"name": row.name, "task": row.task}, messages.WARNING)
        try:
            client.publish(found)
        except (OperationalError, TaskError) as error:
            self.message_user(request, _("Nothing was sent: %(error)s") % {"error": error}, messages.ERROR)
            return
        self._log(request, sendable, "Run now")
        if found:
            self._tell_sent(request, sendable, found)

    def _tell_sent(self, request: HttpRequest, sendable: Sequence[PeriodicTask], sent: Sequence[TaskMessage]) -> None:
        now, user = clock.now(), request.user.get_username()
        # Each microsecond later: a run is known by its entry and its time.
        pairs = enumerate(zip(sendable, sent, strict=True))
        keyed = [((row.name, now + timedelta(microseconds=number)), message) for number, (row, message) in pairs]
        runs.insert([(key, message.id, message.task) for key, message in keyed], sent_at=now, sent_by=user)
        numbers = dict(BeatRun.objects.filter(task_id__in=[message.id for message in sent[:_LINKED]]).values_list("task_id", "pk"))
        links = [(page_of("beatrun", numbers.get(message.id)), key[0]) for key, message in keyed[:_LINKED]]
        text = ngettext("%(count)d task was sent.", "%(count)d tasks were sent.", len(sent)) % {"count": len(sent)}
        joined = format_html_join(", ", '<a href="{}">{}</a>', links)
        self.message_user(request, format_html("{} {}", text, joined), messages.SUCCESS)

    @admin.action(description=gettext_lazy("Enable selected periodic tasks"), permissions=["change"])
    def enable_tasks(self, request: HttpRequest, queryset: "QuerySet[PeriodicTask]") -> None:
        """Switch tasks on. The date is kept, so that beat knows which runs are not wanted any more."""
        changed = queryset.filter(enabled=False).update(enabled=True, date_changed=timezone.now())
        self._told(request, changed, ngettext("%(count)d task was enabled.", "%(count)d tasks were enabled.", changed))

    @admin.action(description=gettext_lazy("Disable selected periodic tasks"), permissions=["change"])
    def disable_tasks(self, request: HttpRequest, queryset: "QuerySet[PeriodicTask]") -> None:
        """Switch tasks off."""
        changed = queryset.filter(enabled=True).update(enabled=False, date_changed=timezone.now())
        self._told(request, changed, ngettext("%(count)d task was disabled.", "%(count)d tasks were disabled.", changed))

    @admin.action(description=gettext_lazy("Switch selected periodic tasks on or off"), permissions=["change"])
    def toggle_tasks(self, request: HttpRequest, queryset: "QuerySet[PeriodicTask]") -> None:
        """Switch enabled tasks off and the others on."""
        changed = queryset.update(enabled=Case(When(enabled=True, then=Value(False)), default=Value(True)), date_changed=timezone.now())
        self._told(request, changed, ngettext("%(count)d task was switched.", "%(count)d tasks were switched.", changed))

    def _told(self, request: HttpRequest, changed: int, text: str) -> None:
        if changed:
            PeriodicTasks.update_changed()
        self.message_user(request, text % {"count": changed}, messages.SUCCESS)

    def _log(self, request: HttpRequest, done: Iterable[PeriodicTask], text: str) -> None:
        LogEntry.objects.log_actions(request.user.pk, list(done), CHANGE, text)  # type: ignore[arg-type]  # any iterable of rows

    # -- pages

    def get_queryset(self, request: HttpRequest) -> "QuerySet[PeriodicTask]":
        """Read rows with their schedules, and with from when on those count that never ran."""
        found: Any = super().get_queryset(request)
        if starts.alias() != rows.alias():
            return cast("QuerySet[PeriodicTask]", found)
        start = BeatStart.objects.filter(pk=OuterRef("pk"))
        began = {"began_every": Subquery(start.values("every")), "began_since": Subquery(start.values("since"))}
        return cast("QuerySet[PeriodicTask]", found.annotate(**began))

    def get_urls(self) -> list[URLPattern]:
        """Add the address that the button posts to."""
        view = self.admin_site.admin_view(self.run_now_view)
        return [path("<path:object_id>/run/", view, name="django_celery_beat_periodictask_run"), *super().get_urls()]

    def run_now_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Send one task, for its page's button."""
        row = self.get_object(request, unquote(object_id))
        if request.method != "POST" or row is None:
            raise Http404
        if not self.has_change_permission(request, row):
            raise PermissionDenied
        self.run_tasks(request, self.get_queryset(request).filter(pk=row.pk))
        return HttpResponseRedirect(reverse(f"{self.admin_site.name}:django_celery_beat_periodictask_change", args=[row.pk]))

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Show the form, with the button, and the first crontabs in words."""
        described = {crontab.pk: in_words(crontab) for crontab in CrontabSchedule.objects.all()[:_DESCRIBED]}
        context = {**(extra_context or {}), "readable_crontabs": described, "object_actions": self._buttons(request, object_id)}
        # Past django-celery-beat's own method, which describes every crontab there is.
        return super(beat_admin.PeriodicTaskAdmin, self).changeform_view(request, object_id, form_url, context)

    def _buttons(self, request: HttpRequest, object_id: str | None) -> list[dict[str, str]]:
        if object_id is None or not self.has_change_permission(request):
            return []
        address = reverse(f"{self.admin_site.name}:django_celery_beat_periodictask_run", args=[object_id])
        return [{"name": "run", "label": _("Run now"), "url": address}]

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> Any:
        """Show the list; say if nobody sends what is due. Which scheduler Celery's beat would use doesn't matter here."""
        if request.method == "GET" and leading() is None and PeriodicTask.objects.filter(enabled=True).exists():
            self.message_user(request, _no_leader(), messages.WARNING)
        return super(beat_admin.PeriodicTaskAdmin, self).changelist_view(request, extra_context)


def overdue(due: datetime) -> SafeString | None:
    """Show in red a run that should have been sent already; None for one to come."""
    late = (clock.now() - due).total_seconds()
    if late < _GRACE:
        return None
    title = _("Due %(time)s ago and not sent: is a beat running?") % {"time": seconds(late)}
    return format_html('<span class="dt-badge dt-bad" title="{}">{}</span>', title, shown(due))


def _no_leader() -> str:
    last = last_led()
    said = _("It was last led by %(holder)s, until %(time)s.") % {"holder": last[0], "time": plain(last[1])} if last else ""
    return f"{_('No beat is running: nothing of this is sent. Start runbeat, or a worker with -B.')} {said}".strip()


def _message_now(entry: Entry) -> Any:
    message = entry.message(clock.now(), task_id=new_id())
    # An expired schedule doesn't make what is sent by hand stale.
    stale = message.expires is not None and message.expires <= clock.now()
    return replace(message, expires=None) if stale else message


if admin.site.is_registered(PeriodicTask):
    admin.site.unregister(PeriodicTask)
admin.site.register(PeriodicTask, PeriodicTaskAdmin)
