"""Workers, as their heartbeats show them."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.http import HttpRequest
from django.utils.formats import number_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_tasks.admin.display import EMPTY, age, badge, moment, mono, seconds
from django_tasks.admin.filters import LivenessFilter
from django_tasks.admin.links import named
from django_tasks.admin.operating import OperatorAdmin
from django_tasks.admin.pauses import PausesList, mark_all, tell_all
from django_tasks.models import Worker
from django_tasks.operations.workers import Liveness, liveness, uptime


@admin.register(Worker)
class WorkerAdmin(OperatorAdmin[Worker]):
    """Which workers live and what they do; rows of dead ones can be deleted."""

    list_display = ("name", "state", "slots", "in_queues", "running", "finished", "up", "last_seen")
    list_filter = (LivenessFilter, "pool")
    search_fields = ("name", "host")
    ordering = ("-heartbeat_at",)
    readonly_fields = ("state", "queue_names", "up", "last_seen", "started", "stopped", "node")
    fieldsets = (
        (None, {"fields": ("name", "state", "last_seen", "up")}),
        (gettext_lazy("Work"), {"fields": ("queue_names", "pool", "concurrency", "active", "processed")}),
        (gettext_lazy("Process"), {"fields": ("host", "pid", "version", "started", "stopped", "node")}),
    )

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        """Use the list that knows what is paused."""
        return PausesList

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Worker | None:
        """Find a worker by its number, or by its name, as links on other pages have it: the one that was heard of last."""
        name = named(object_id)
        if name is None:
            return super().get_object(request, object_id, from_field)
        return self.get_queryset(request).filter(name=name).order_by("-heartbeat_at").first()

    @admin.display(description=gettext_lazy("state"), ordering="heartbeat_at")
    def state(self, worker: Worker) -> str:
        """Alive, stale or stopped."""
        found = liveness(worker)
        return badge(found, str(found.label))

    @admin.display(description=gettext_lazy("pool"), ordering="pool")
    def slots(self, worker: Worker) -> str:
        """The pool and how many tasks it runs at once."""
        return f"{worker.pool} × {worker.concurrency}"  # noqa: RUF001  a multiplication sign is meant

    @admin.display(description=gettext_lazy("running"), ordering="active")
    def running(self, worker: Worker) -> str:
        """How many tasks run there now, as of the last heartbeat."""
        return number_format(worker.active) if liveness(worker) is Liveness.ALIVE else EMPTY

    @admin.display(description=gettext_lazy("finished"), ordering="processed")
    def finished(self, worker: Worker) -> str:
        """How many tasks it has finished since it started."""
        return number_format(worker.processed)

    @admin.display(description=gettext_lazy("queues"))
    def in_queues(self, worker: Worker) -> str:
        """The queues it takes messages from; those that are paused are marked."""
        return mark_all(worker, map(str, worker.queues or ()))

    @admin.display(description=gettext_lazy("queues"))
    def queue_names(self, worker: Worker) -> str:
        """The queues it takes messages from; of those that are paused, by whom and why."""
        return tell_all(worker, map(str, worker.queues or ()))

    @admin.display(description=gettext_lazy("uptime"), ordering="-started_at")
    def up(self, worker: Worker) -> str:
        """How long it has run."""
        return seconds(uptime(worker).total_seconds())

    @admin.display(description=gettext_lazy("last heartbeat"), ordering="heartbeat_at")
    def last_seen(self, worker: Worker) -> str:
        """How long ago it was heard of."""
        return _("%(age)s ago") % {"age": age(worker.heartbeat_at)}

    @admin.display(description=gettext_lazy("started at"))
    def started(self, worker: Worker) -> str:
        """When it started, to the second."""
        return moment(worker.started_at)

    @admin.display(description=gettext_lazy("stopped at"))
    def stopped(self, worker: Worker) -> str:
        """When it said that it stops."""
        return moment(worker.stopped_at)

    @admin.display(description=gettext_lazy("instance"))
    def node(self, worker: Worker) -> str:
        """What tells two runs of one name apart."""
        return mono(worker.instance)

    def has_delete_permission(self, request: HttpRequest, obj: Worker | None = None) -> bool:
        """Only dead ones: a living worker would write its row again."""
        allowed = super().has_delete_permission(request, obj)
        return allowed and (obj is None or liveness(obj) is not Liveness.ALIVE)

    def undeletable(self, rows: Sequence[Worker]) -> list[str]:
        """Living workers stay."""
        return [_("%(worker)s is alive") % {"worker": worker} for worker in rows if liveness(worker) is Liveness.ALIVE]
