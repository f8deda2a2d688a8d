"""Ways between the pages: what is named on one is a link to its own."""

from collections.abc import Iterable

from django.apps import apps
from django.contrib.admin.utils import quote
from django.urls import NoReverseMatch, reverse
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString

from django_tasks.admin.display import EMPTY, page_of

#: Before a name that stands in an address where the number of a row is expected.
_BY_NAME = "name:"


def named(object_id: str) -> str | None:
    """Return the name that stands in an address in the place of a number; None if a number does."""
    return object_id.removeprefix(_BY_NAME) if object_id.startswith(_BY_NAME) else None


def queue_link(name: str | None) -> SafeString | str:
    """Show a queue's name as the way to its page."""
    return _linked("queue", name)


def worker_link(name: str | None) -> SafeString | str:
    """Show a worker's name as the way to its page, or the one that it had last."""
    return _linked("worker", name)


def schedule_link(name: str | None) -> SafeString | str:
    """Show a periodic task's name as the way to it; an entry of the code may have no row, so it is a search."""
    if not name:
        return EMPTY
    if not apps.is_installed("django_celery_beat"):
        return name
    try:
        address = reverse("admin:django_celery_beat_periodictask_changelist")
    except NoReverseMatch:
        return name
    return format_html('<a href="{}?{}">{}</a>', address, urlencode({"name": name}), name)


def queue_links(names: Iterable[str]) -> SafeString | str:
    """Show queues, each with a link."""
    return format_html_join(", ", "{}", ((queue_link(str(name)),) for name in names)) or EMPTY


def _linked(model: str, name: str | None) -> SafeString | str:
    if not name:
        return EMPTY
    # The pages take names in the place of numbers.
    address = page_of(model, quote(f"{_BY_NAME}{name}"))
    return format_html('<a href="{}">{}</a>', address, name) if address else name
