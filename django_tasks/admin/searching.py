"""Searching messages: by the beginning of an id, as lists show it, and by the arguments of a call."""

from typing import Any

from django.db.models import Q, QuerySet
from django.http import HttpRequest

from django_tasks.admin.operating import _M, OperatorAdmin
from django_tasks.exceptions import DecodeError
from django_tasks.serializers import dumps_json, loads_json

#: Newest messages whose arguments are searched.
SEARCHED = 20_000
#: Most messages that a search for arguments finds.
FOUND = 500
#: Characters of a long id that lists show, and the character behind them.
_SHOWN, _CUT = 8, "…"


def is_beginning(term: str) -> str:
    """Return a term that may be the beginning of an id; empty for any other."""
    text = term.rstrip(_CUT)
    return text if " " not in text and (len(text) >= _SHOWN or (text and text != term)) else ""


class MessageSearchAdmin(OperatorAdmin[_M]):
    """The admin of rows that hold a message. Its ``search_fields`` are searched word by word; ids and arguments as well."""

    def get_search_results(self, request: HttpRequest, queryset: "QuerySet[_M]", search_term: str) -> "tuple[QuerySet[_M], bool]":
        """Look through fields, beginnings of ids, and what the headers say of the arguments."""
        found, duplicates = super().get_search_results(request, queryset, search_term)
        term = search_term.strip()
        if not term:
            return found, duplicates
        more = Q(pk__in=_with_arguments(queryset, term))
        if shown := is_beginning(term):
            more |= Q(task_id__startswith=shown)
        return found | queryset.filter(more), duplicates


def _with_arguments(rows: "QuerySet[Any]", term: str) -> list[int]:
    """Return rows whose arguments contain a text, among the newest."""
    newest = rows.order_by("-pk").values_list("pk", flat=True).first() or 0
    # What it stands for in JSON, as the headers are.
    within = Q(headers__icontains=dumps_json(term)[1:-1]) | Q(headers__icontains=term)
    candidates = rows.filter(within, pk__gt=newest - SEARCHED).order_by("-pk").values_list("pk", "headers")
    return [pk for pk, headers in candidates[: 10 * FOUND] if term.lower() in _arguments(headers).lower()][:FOUND]


def _arguments(headers: str) -> str:
    try:
        found = loads_json(headers)
    except DecodeError:
        return ""
    return f"{found.get('argsrepr') or ''} {found.get('kwargsrepr') or ''}" if isinstance(found, dict) else ""
