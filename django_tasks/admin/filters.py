"""List filters that never read a whole table to find out what can be chosen."""

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Model, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from django_tasks import states
from django_tasks.models import Worker
from django_tasks.operations.workers import Liveness, in_state
from django_tasks.registry import registry

#: Newest rows that are looked at for values to offer.
LOOKED_AT = 2_000
#: Most values that a filter offers.
OFFERED = 50
#: Values that only might be there are offered beside those that are, as long as there are no more than these.
FEW = 20


class RecentValuesFilter(admin.SimpleListFilter):
    """Offers the values that the newest rows have. Any other value can be given in the address, and is then offered, too."""

    #: The column.
    field: ClassVar[str]

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        """List the values to choose from."""
        newest = model_admin.get_queryset(request).order_by("-pk").values_list(self.field, flat=True)[:LOOKED_AT]
        values = {str(value) for value in newest if value not in {None, ""}}
        more = {*values, *self.more()}
        if len(more) <= FEW:
            values = more
        listed = sorted(values)[:OFFERED]
        chosen = request.GET.get(self.parameter_name or "")
        if chosen and chosen not in listed:
            listed.append(chosen)
        return [(value, value) for value in listed]

    def more(self) -> Iterable[str]:
        """Values to offer beside those of the newest rows."""
        return ()

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Model]") -> "QuerySet[Model]":
        """Narrow the list to the chosen value."""
        return queryset if self.value() is None else queryset.filter(**{self.field: self.value()})


class StateFilter(RecentValuesFilter):
    """By state; custom states of the newest rows are offered as well."""

    title = _("state")
    parameter_name = "status"
    field = "status"

    def more(self) -> Iterable[str]:
        """Every state that a result can have."""
        return states.ALL_STATES


class TaskNameFilter(RecentValuesFilter):
    """By task; a few registered tasks are offered as well."""

    title = _("task")
    parameter_name = "task_name"
    field = "task_name"

    def more(self) -> Iterable[str]:
        """The project's own tasks."""
        return [name for name in registry if not name.startswith("celery.")]


class WorkerFilter(RecentValuesFilter):
    """By worker."""

    title = _("worker")
    parameter_name = "worker"
    field = "worker"


class QueueFilter(RecentValuesFilter):
    """By queue."""

    title = _("queue")
    parameter_name = "queue"
    field = "queue"


class ReasonFilter(RecentValuesFilter):
    """By the reason of a dead letter."""

    title = _("reason")
    parameter_name = "reason"
    field = "reason"


class MessageTaskFilter(RecentValuesFilter):
    """By task, for queued messages and dead letters."""

    title = _("task")
    parameter_name = "task"
    field = "task"


class PausedFilter(admin.SimpleListFilter):
    """By whether a queue is paused."""

    title = _("state")
    parameter_name = "paused"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        """Open, paused."""
        return [("no", gettext("open")), ("yes", gettext("paused"))]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Model]") -> "QuerySet[Model]":
        """Narrow the list to the chosen queues."""
        return queryset if self.value() not in {"yes", "no"} else queryset.filter(paused_at__isnull=self.value() == "no")


class LivenessFilter(admin.SimpleListFilter):
    """By what the heartbeats say."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Sequence[tuple[str, str]]:
        """Alive, stale, stopped."""
        return [(value, str(label)) for value, label in Liveness.choices]

    def queryset(self, request: HttpRequest, queryset: "QuerySet[Worker]") -> "QuerySet[Worker]":
        """Narrow the list to the chosen workers."""
        return in_state(queryset, self.value() or "") if self.value() in Liveness.values else queryset
