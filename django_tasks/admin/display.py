"""Values as the admin shows them: coloured states, code in boxes, links, ages."""

import json
from datetime import datetime
from typing import Any

from django.contrib.admin.utils import quote
from django.urls import NoReverseMatch, reverse
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_tasks import clock, states
from django_tasks.models import MessageState
from django_tasks.models.times import aware
from django_tasks.operations.progress import progress_of
from django_tasks.operations.workers import Liveness

EMPTY = "-"

#: State to the tone of its badge; a custom state is neutral.
TONES: dict[Any, str] = {
    states.SUCCESS: "good",
    states.FAILURE: "bad",
    states.REVOKED: "bad",
    states.REJECTED: "bad",
    states.RETRY: "warn",
    states.STARTED: "busy",
    states.PROGRESS: "busy",
    states.RECEIVED: "busy",
    MessageState.CLAIMED: "busy",
    MessageState.DELAYED: "warn",
    Liveness.ALIVE: "good",
    Liveness.STALE: "bad",
}


def badge(value: Any, label: str | None = None, tone: str | None = None) -> SafeString:
    """Show a state as a coloured word."""
    return format_html('<span class="dt-badge dt-{}">{}</span>', tone or TONES.get(value, "plain"), str(value) if label is None else label)


def code(text: str, *, wrap: bool = False) -> SafeString | str:
    """Show text as it is, in a box that scrolls; ``wrap`` breaks long lines, for sentences."""
    return format_html('<pre class="dt-code{}">{}</pre>', " dt-wrap" if wrap else "", text) if text else EMPTY


def progress_bar(status: str, text: str | None) -> SafeString | None:
    """Show how far a task says that it has come, as a bar with its words; None for anything else."""
    try:
        progress = progress_of(status, json.loads(text or ""))
    except (RecursionError, ValueError):
        return None
    if progress is None:
        return None
    if progress.share is None:
        words = f"{progress.done:g}"
        return format_html(
            '<div class="dt-progress" id="dt-progress" data-live><progress aria-label="{}"></progress><span>{}</span><span>{}</span></div>',
            _("Progress"), words, progress.message,
        )  # fmt: skip
    words = f"{progress.done:g} / {progress.total:g} ({int(100 * progress.share)} %)"
    return format_html(
        '<div class="dt-progress" id="dt-progress" data-live>'
        '<progress max="1" value="{}" aria-label="{}">{}</progress><span>{}</span><span>{}</span></div>',
        progress.share, _("Progress"), words, words, progress.message,
    )  # fmt: skip


def mono(text: str | None) -> SafeString | str:
    """Show an id or a name in fixed width."""
    return format_html('<span class="dt-mono">{}</span>', text) if text else EMPTY


def short(task_id: str | None) -> SafeString | str:
    """Show the beginning of an id, which is enough to tell calls apart; the whole appears when it is pointed at."""
    if not task_id or len(task_id) <= 13:
        return mono(task_id)
    return format_html('<span class="dt-mono" title="{}">{}…</span>', task_id, task_id[:8])


def page_of(model: str, pk: Any) -> str | None:
    """Address of the admin page of one of our rows; None where this site doesn't have that model."""
    try:
        return reverse(f"admin:django_tasks_{model}_change", args=[pk])
    except NoReverseMatch:
        return None


def link(address: str | None, text: str) -> SafeString | str:
    """Show a link, or the bare text where there is no address."""
    return format_html('<a class="dt-mono" href="{}">{}</a>', address, text) if address else mono(text)


def seconds(value: float | None) -> str:
    """Write a duration in the unit that suits it."""
    if value is None:
        return EMPTY
    if value < 1:
        return _("%s ms") % number_format(round(value * 1000, 1) if value < 0.01 else round(value * 1000))
    if value < 120:
        return _("%s s") % number_format(round(value, 1))
    minutes, rest = divmod(int(value), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return ngettext("%(days)d day %(hours)d h", "%(days)d days %(hours)d h", days) % {"days": days, "hours": hours}
    if hours:
        return _("%(hours)d h %(minutes)d min") % {"hours": hours, "minutes": minutes}
    return _("%(minutes)d min %(seconds)d s") % {"minutes": minutes, "seconds": rest}


def moment(value: datetime | None) -> SafeString | str:
    """Show a time to the second; the exact one appears when it is pointed at."""
    if value is None:
        return EMPTY
    local = localtime(value) if value.tzinfo else value
    return format_html('<time datetime="{}" title="{}">{}</time>', value.isoformat(), local.isoformat(" "), plain(value))


def plain(value: datetime) -> str:
    """Write a time to the second, in the reader's zone, for sentences."""
    local = localtime(value) if value.tzinfo else value
    return f"{date_format(local, 'SHORT_DATE_FORMAT')} {local:%H:%M:%S}"


def lifetime(value: float | None) -> str:
    """Write how long something is kept; None is for ever."""
    if value is None:
        return _("for ever")
    days = value / 86400
    if days >= 1 and days == int(days):
        return ngettext("for %(days)d day", "for %(days)d days", int(days)) % {"days": int(days)}
    return _("for %(time)s") % {"time": seconds(value)}


def recent(value: datetime | None) -> SafeString | str:
    """Show a time in a list: of today the time, of other days the date as well; the exact one appears when it is pointed at."""
    if value is None:
        return EMPTY
    local = localtime(value) if value.tzinfo else value
    today = local.date() == (localtime(clock.now()) if value.tzinfo else datetime.now()).date()  # noqa: DTZ005  USE_TZ is off
    text = f"{local:%H:%M:%S}" if today else f"{date_format(local, 'SHORT_DATE_FORMAT')} {local:%H:%M}"
    return format_html('<time datetime="{}" title="{}">{}</time>', value.isoformat(), local.isoformat(" "), text)


def task_link(task_id: str | None) -> SafeString | str:
    """Show the beginning of a task's id, as the way to whatever is known of it."""
    if not task_id:
        return EMPTY
    address = page_of("taskresult", quote(task_id))
    return format_html('<a href="{}">{}</a>', address, short(task_id)) if address else short(task_id)


def age(value: datetime | None) -> str:
    """Write how long ago a time was; EMPTY for None."""
    return EMPTY if value is None else seconds(max(0.0, (clock.now() - aware(value)).total_seconds()))
