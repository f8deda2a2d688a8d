"""Paused queues, wherever a queue is named: marked, with who paused it and why."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from django_tasks.admin.display import EMPTY, badge, plain
from django_tasks.admin.links import queue_link
from django_tasks.models import Queue

#: Where a row keeps what is known of paused queues.
_KEY = "_paused_queues"


class PausesList(ChangeList):
    """Asks once for all rows of a page which queues are paused."""

    def get_results(self, request: HttpRequest) -> None:
        """Read the rows, and what is paused."""
        super().get_results(request)
        rows: Sequence[Any] = list(self.result_list)
        paused = _paused()
        for row in rows:
            row.__dict__[_KEY] = paused
        self.result_list = rows


def _paused() -> dict[str, Queue]:
    return {queue.name: queue for queue in Queue.objects.filter(paused_at__isnull=False)}


def _known_to(row: Any) -> Mapping[str, Queue]:
    if _KEY not in row.__dict__:
        row.__dict__[_KEY] = _paused()
    found: Mapping[str, Queue] = row.__dict__[_KEY]
    return found


def why(queue: Queue) -> str:
    """Say who paused a queue, since when and why."""
    if queue.paused_at is None:
        return ""
    said = _("paused since %(time)s") % {"time": plain(queue.paused_at)}
    by = _(" by %(user)s") % {"user": queue.paused_by} if queue.paused_by else ""
    return f"{said}{by}: {queue.reason}" if queue.reason else f"{said}{by}"


def mark(row: Any, name: str | None) -> SafeString | str:
    """Show a queue in a list: linked, with a mark if it is paused, which says by whom and why when it is pointed at."""
    queue = _known_to(row).get(name or "")
    if queue is None:
        return queue_link(name)
    return format_html('{} <span title="{}">{}</span>', queue_link(name), why(queue), badge("paused", _("paused"), "warn"))


def mark_all(row: Any, names: Iterable[str]) -> SafeString | str:
    """Show several queues in a list."""
    return format_html_join(", ", "{}", ((mark(row, name),) for name in names)) or EMPTY


def tell(row: Any, name: str | None) -> SafeString | str:
    """Show a queue on a page: linked, and in words who paused it and why."""
    queue = _known_to(row).get(name or "")
    return queue_link(name) if queue is None else format_html("{} {}", queue_link(name), badge("paused", why(queue), "warn"))


def tell_all(row: Any, names: Iterable[str]) -> SafeString | str:
    """Show several queues on a page."""
    return format_html_join("", "<div>{}</div>", ((tell(row, name),) for name in names)) or EMPTY
