"""Pages of single crontabs and solar events: what can't be scheduled is refused, and shown where it exists already.

Importing needs django-celery-beat among the INSTALLED_APPS, as ``periodic`` does.
"""

from typing import Any

from django import forms
from django.contrib import admin
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django_celery_beat import admin as beat_admin
from django_celery_beat.models import CrontabSchedule, PeriodicTask, SolarSchedule

from django_tasks import clock
from django_tasks.admin.display import EMPTY, badge
from django_tasks.admin.display import moment as shown
from django_tasks.beat import rows
from django_tasks.beat.crontabrows import MissingZone
from django_tasks.beat.entries import BrokenEntryError, Entry, schedule_zone
from django_tasks.schedules import sunday_as_zero


def entry_with(column: str, schedule: Any) -> Entry:
    """Return a periodic task with this schedule in this column, as beat would read it. Neither needs to be saved.

    Raises BrokenEntryError for what can't be scheduled.
    """
    row = PeriodicTask(name="trial", task="trial", date_changed=timezone.now(), **{column: schedule})
    columns = list(rows.columns_of(row))
    # A schedule that isn't saved has no key; any will do.
    columns[rows.COLUMNS.index(f"{column}_id")] = schedule.pk or -1
    return rows.read(columns, zone=schedule_zone())


def fault_of(column: str, schedule: Any) -> str | None:
    """Return what is wrong with a schedule; None for one that beat can use."""
    try:
        entry_with(column, schedule)
    except BrokenEntryError as error:
        return str(error)
    return None


def in_words(crontab: CrontabSchedule) -> str:
    """Describe a crontab, or say why it never runs."""
    fault = fault_of("crontab", crontab)
    if fault is not None:
        return _("never runs: %(fault)s") % {"fault": fault}
    fields = {name: getattr(crontab, name) for name in ("minute", "hour", "day_of_month", "month_of_year")}
    same = CrontabSchedule(**fields, day_of_week=sunday_as_zero(crontab.day_of_week), timezone=crontab.timezone)
    try:
        return str(same.human_readable)
    except Exception:  # noqa: BLE001  the describing library raises whatever a text makes it stumble over
        return str(crontab)


class _ScheduleForm(forms.ModelForm):  # type: ignore[type-arg]  # django-celery-beat's models are untyped
    column = ""

    def _post_clean(self) -> None:
        super()._post_clean()  # type: ignore[misc]  # Django's hook after the instance has its values
        if not self.errors and (fault := fault_of(self.column, self.instance)) is not None:
            self.add_error(None, fault)


class CrontabForm(_ScheduleForm):
    """Refuses a crontab that beat would refuse, and shows a zone that doesn't exist as the one that the row has."""

    column = "crontab"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        zone = self.instance.timezone
        if isinstance(zone, MissingZone) and "timezone" in self.fields:
            # Without it a browser would choose the first of the list, and saving would write that.
            gone = (str(zone), _("%(zone)s (there is no such zone any more)") % {"zone": zone})
            field: Any = self.fields["timezone"]
            field.choices = [gone, *field.choices]


class SolarForm(_ScheduleForm):
    """Refuses an event that never comes at its place."""

    column = "solar"


class CrontabScheduleAdmin(beat_admin.CrontabScheduleAdmin):  # type: ignore[misc]  # untyped
    """Crontabs, those included that never run."""

    form = CrontabForm

    @admin.display(description=gettext_lazy("in words"))
    def human_readable(self, crontab: CrontabSchedule) -> SafeString | str:
        """The crontab in words, or what is wrong with it."""
        fault = None if crontab.pk is None else fault_of("crontab", crontab)
        return in_words(crontab) if fault is None else badge("broken", fault, "bad")


class SolarScheduleAdmin(beat_admin.SolarScheduleAdmin):  # type: ignore[misc]  # untyped
    """Solar events, with when each comes next."""

    form = SolarForm
    list_display = ("__str__", "next_time")

    @admin.display(description=gettext_lazy("next time"))
    def next_time(self, event: SolarSchedule) -> SafeString | str:
        """When it comes next, or why it never does."""
        try:
            due = entry_with("solar", event).next_run(clock.now())
        except BrokenEntryError as error:
            return badge("broken", str(error), "bad")
        return EMPTY if due is None else shown(due)


for model, page in ((CrontabSchedule, CrontabScheduleAdmin), (SolarSchedule, SolarScheduleAdmin)):
    if admin.site.is_registered(model):
        admin.site.unregister(model)
    admin.site.register(model, page)
