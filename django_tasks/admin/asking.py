"""Asking before something runs again that was run again before."""

from collections.abc import Collection
from typing import Final

from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_tasks.admin.display import plain
from django_tasks.models import Rerun

#: The field by which a page that asks says how many reruns its reader knows of.
KNOWN: Final = "known_reruns"


def knows(request: HttpRequest, earlier: Collection[Rerun]) -> bool:
    """Whether who posts this has been told of these reruns."""
    return request.POST.get(KNOWN, "0") == str(len(earlier))


def told(earlier: Collection[Rerun]) -> str:
    """Say how often, when last and by whom this was run again before; empty if it wasn't."""
    if not earlier:
        return ""
    last = max(earlier, key=lambda rerun: rerun.pk)
    said = ngettext("Run again once already", "Run again %(count)d times already", len(earlier)) % {"count": len(earlier)}
    by = _(", by %(user)s") % {"user": last.run_by} if last.run_by else ""
    return _("%(said)s; last at %(time)s%(by)s.") % {"said": said, "time": plain(last.run_at), "by": by}
