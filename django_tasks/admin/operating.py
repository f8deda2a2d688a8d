"""What the admin pages of rows that only workers write have in common.

They are read-only; lists stay quick on tables of millions; every action asks for a permission of its own, is offered as a
button on the object's page as well, and is written to Django's log of admin actions.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import Model, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.functional import cached_property
from django.utils.text import capfirst
from django.utils.translation import gettext as _

_M = TypeVar("_M", bound=Model)

if TYPE_CHECKING:
    from django.contrib.admin import ModelAdmin as _ModelAdmin
else:
    # Django's class takes a type argument for type checkers only.
    class _ModelAdmin(admin.ModelAdmin, Generic[_M]):
        """Django's, with room for a type argument."""


#: Rows that an action takes at once when all of a list is selected.
MOST_SELECTED = 10_000
#: Rows that are deleted at once: Django's confirmation page sends each as a form field, and refuses more than 1000.
MOST_DELETED = 900


#: Rows that a page names that asks whether an action is meant.
LISTED = 20


class BoundedPaginator(Paginator):  # type: ignore[type-arg]  # generic for type checkers only
    """Counts no further than ``limit``: a list of ten million rows opens as quickly as one of ten."""

    limit = 10_000

    @cached_property
    def count(self) -> int:
        """How many rows there are, at most ``limit``."""
        rows: Any = self.object_list
        return int(rows.order_by()[: self.limit].count())

    @property
    def bounded(self) -> bool:
        """There may be more rows than are listed."""
        return self.count >= self.limit


@dataclass(frozen=True, slots=True)
class _Allowed:
    """An action that the user may run."""

    run: Callable[..., HttpResponse | None]
    description: str


def _allowed(action: Any) -> _Allowed:
    # Tuples before Django 6.1, objects since; to take those for tuples is deprecated.
    if isinstance(action, tuple):
        return _Allowed(action[0], action[2])
    return _Allowed(action.func, action.description)


class OperatorAdmin(_ModelAdmin[_M]):
    """Look, act, delete; never add or change."""

    paginator = BoundedPaginator
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 500
    # Counts beside the filters would count the whole table, once for each value.
    show_facets = admin.ShowFacets.NEVER
    actions_selection_counter = True
    #: Names of the actions that an object's own page offers as buttons.
    object_actions: ClassVar[tuple[str, ...]] = ()

    class Media:
        css = {"all": ["django_tasks/admin.css"]}
        js = ["django_tasks/live.js"]

    # -- permissions

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Never: workers write these rows."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: _M | None = None) -> bool:
        """Never: there are actions instead."""
        return False

    def may(self, request: HttpRequest, codename: str) -> bool:
        """Whether the user has one of this app's permissions."""
        return bool(request.user.has_perm(f"{self.opts.app_label}.{codename}"))

    # -- lists

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        """Show the list, or run an action. A page that asked first posts its rows in one field: Django refuses more than 1000."""
        if request.method == "POST" and (rows := request.POST.get("confirmed_rows")):
            chosen = request.POST.copy()
            chosen.setlist(ACTION_CHECKBOX_NAME, [row for row in rows.split(",") if row.isdecimal()])
            request.POST = chosen  # type: ignore[assignment]
        return super().changelist_view(request, extra_context)

    def response_action(self, request: HttpRequest, queryset: "QuerySet[_M]", *args: Any, **options: Any) -> HttpResponse | None:
        """Run an action, on a bounded number of rows when «all» are selected. From 6.1 on, Django says where it was chosen."""
        if request.POST.get("select_across") == "1":
            queryset = self._first_of(request, queryset)
        return super().response_action(request, queryset, *args, **options)

    def _first_of(self, request: HttpRequest, queryset: "QuerySet[_M]") -> "QuerySet[_M]":
        most = MOST_DELETED if "delete_selected" in request.POST.getlist("action") else MOST_SELECTED
        keys = list(queryset.values_list("pk", flat=True)[: most + 1])
        if len(keys) <= most:
            return queryset
        self.message_user(request, _("Only the first %(most)d are taken at once; repeat for the rest.") % {"most": most}, messages.WARNING)
        return queryset.filter(pk__in=keys[:most])

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[list[str], dict[str, int], set[str], list[str]]:
        """Name what is going to be deleted; nothing hangs on these rows, so there is nothing else to collect."""
        rows = list(objs)
        names = [str(row) for row in rows[:20]]
        if len(rows) > len(names):
            names.append(_("… and %(more)d more") % {"more": len(rows) - len(names)})
        lacking = set() if self.has_delete_permission(request) else {str(self.opts.verbose_name)}
        return names, {str(self.opts.verbose_name_plural): len(rows)}, lacking, self.undeletable(rows)

    def undeletable(self, rows: Sequence[_M]) -> list[str]:
        """Say of each row that must stay why it must."""
        return []

    # -- actions on one object's page

    def get_urls(self) -> list[URLPattern]:
        """Add the addresses that the buttons post to."""
        prefix = f"{self.opts.app_label}_{self.opts.model_name}"
        view = self.admin_site.admin_view(self.object_action_view)
        return [path("<path:object_id>/do/<slug:action>/", view, name=f"{prefix}_do"), *super().get_urls()]

    def offered(self, request: HttpRequest, obj: _M) -> Iterable[str]:
        """Names of the actions that make sense for this object; the user's permissions are looked at afterwards."""
        return self.object_actions

    def object_action_view(self, request: HttpRequest, object_id: str, action: str) -> HttpResponse:
        """Run one action on one object, for its button."""
        obj = self.get_object(request, unquote(object_id))
        if request.method != "POST" or action not in self.object_actions:
            raise Http404
        if obj is None:
            return self._get_obj_does_not_exist_redirect(request, self.opts, object_id)  # type: ignore[attr-defined,no-any-return]
        chosen = self._allowed(request).get(action)
        if chosen is None or not self.has_view_permission(request, obj):
            raise PermissionDenied
        response = chosen.run(self, request, self.get_queryset(request).filter(pk=obj.pk))
        return response or HttpResponseRedirect(self._page_after(request, obj.pk))

    def _page_after(self, request: HttpRequest, pk: Any) -> str:
        if self.get_queryset(request).filter(pk=pk).exists():
            return reverse(f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_change", args=[pk])
        return self.list_address()

    def list_address(self) -> str:
        """Address of the list of these rows."""
        return reverse(f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}_changelist")

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show one object, with a button for each action that makes sense and is allowed."""
        obj = self.get_object(request, unquote(object_id))
        context = {**(extra_context or {}), "object_actions": [] if obj is None else self._buttons(request, obj)}
        return super().change_view(request, object_id, form_url, context)

    def _buttons(self, request: HttpRequest, obj: _M) -> list[dict[str, str]]:
        allowed = self._allowed(request)
        prefix = f"{self.admin_site.name}:{self.opts.app_label}_{self.opts.model_name}"
        buttons = []
        for name in self.offered(request, obj):
            if name in allowed:
                label = getattr(allowed[name].run, "button", None) or allowed[name].description
                buttons.append({"name": name, "label": str(label), "url": reverse(f"{prefix}_do", args=[obj.pk, name])})
        return buttons

    def _allowed(self, request: HttpRequest) -> dict[str, _Allowed]:
        actions: dict[str, Any] = dict(self.get_actions(request))
        return {name: _allowed(action) for name, action in actions.items()}

    def log_operation(self, request: HttpRequest, rows: Iterable[_M], message: str) -> None:
        """Write to Django's log of admin actions what was done to these rows."""
        LogEntry.objects.log_actions(request.user.pk, list(rows), CHANGE, message)  # type: ignore[arg-type]  # any iterable of rows

    def ask(self, request: HttpRequest, queryset: Iterable[_M], action: str, **context: Any) -> TemplateResponse:
        """Show the page that asks whether an action is really meant; its form posts ``confirmed``.

        ``hidden`` are more names and values for it to post.
        """
        rows = list(queryset)
        return TemplateResponse(
            request,
            "admin/django_tasks/confirm.html",
            {
                **self.admin_site.each_context(request),
                "opts": self.opts,
                "media": self.media,
                "rows": rows,
                "listed": rows[:LISTED],
                "more": max(0, len(rows) - LISTED),
                "action": action,
                "list_address": self.list_address(),
                "subtitle": None,
                **context,
                "title": capfirst(str(context.get("title", action))),
            },
        )
