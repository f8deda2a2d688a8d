"""Two ways to keep calls from running, for results and queued messages: never start them, and stop them now."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from django_tasks.admin.operating import _M, OperatorAdmin
from django_tasks.operations.calls import revoke
from django_tasks.operations.workers import alive

#: Pools whose tasks nothing can interrupt.
_UNSTOPPABLE = frozenset({"threads", "solo"})


class RevokingAdmin(OperatorAdmin[_M]):
    """An admin whose rows are calls that can be revoked."""

    def revocable(self, queryset: "QuerySet[_M]") -> Sequence[Any]:
        """Return the calls among these rows that a revocation can still reach, each with a ``task_id``."""
        raise NotImplementedError

    def runner(self, row: Any) -> str | None:
        """Name the worker that runs a call; empty if one does and isn't known, None if none does."""
        raise NotImplementedError

    @admin.action(description=gettext_lazy("Never start selected tasks"), permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: "QuerySet[_M]") -> None:
        """Let no worker start them any more; what runs is left alone."""
        self._revoke(request, queryset, terminate=False)

    revoke.button = gettext_lazy("Never start it")  # type: ignore[attr-defined]  # read by OperatorAdmin

    @admin.action(description=gettext_lazy("Stop selected tasks now"), permissions=["revoke"])
    def terminate(self, request: HttpRequest, queryset: "QuerySet[_M]") -> None:
        """Stop those that run, and let no worker start the others."""
        self._revoke(request, queryset, terminate=True)

    terminate.button = gettext_lazy("Stop it now")  # type: ignore[attr-defined]

    def _revoke(self, request: HttpRequest, queryset: "QuerySet[_M]", *, terminate: bool) -> None:
        rows = self.revocable(queryset)
        if not rows:
            self.message_user(request, _("Nothing was revoked: these tasks are done, or have no id."), messages.WARNING)
            return
        revoke([row.task_id for row in rows], by=request.user.get_username(), terminate=terminate)
        self.log_operation(request, rows, _("Revoked and stopped.") if terminate else _("Revoked."))
        for level, text in _Fates.of([self.runner(row) for row in rows], terminate=terminate).told():
            self.message_user(request, text, level)


@dataclass(slots=True)
class _Fates:
    """How many of the revoked calls never start, run on, are stopped, can't be stopped, and are in no living worker's hands."""

    counts: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, runners: Sequence[str | None], *, terminate: bool) -> "_Fates":
        fates = cls()
        pools = dict(alive().values_list("name", "pool")) if terminate and any(runners) else {}
        for runner in runners:
            fate = "never" if runner is None else _stopped(runner, pools) if terminate else "on"
            fates.counts[fate] = fates.counts.get(fate, 0) + 1
        return fates

    def told(self) -> list[tuple[int, str]]:
        return [(level, text(count) % {"count": count}) for fate, (level, text) in _TOLD.items() if (count := self.counts.get(fate))]


def _stopped(runner: str, pools: Mapping[str, str]) -> str:
    if not runner:
        return "stopped"
    if runner not in pools:
        return "gone"
    return "unstoppable" if pools[runner] in _UNSTOPPABLE else "stopped"


def _runs_on(count: int) -> str:
    return ngettext(
        "%(count)d task runs already, and goes on: it is not started again. “Stop it now” ends it.",
        "%(count)d tasks run already, and go on: they are not started again. “Stop it now” ends them.",
        count,
    )


def _is_stopped(count: int) -> str:
    return ngettext(
        "%(count)d task is being stopped: its worker hears of it within two seconds.",
        "%(count)d tasks are being stopped: their workers hear of it within two seconds.",
        count,
    )


def _cannot_be_stopped(count: int) -> str:
    return ngettext(
        "%(count)d task goes on: nothing can interrupt what a worker runs with threads or solo. It is not started again.",
        "%(count)d tasks go on: nothing can interrupt what a worker runs with threads or solo. They are not started again.",
        count,
    )


def _is_nowhere(count: int) -> str:
    return ngettext(
        "%(count)d task is not started again; the worker that ran it is not alive.",
        "%(count)d tasks are not started again; the workers that ran them are not alive.",
        count,
    )


def _never_starts(count: int) -> str:
    return ngettext("%(count)d task will never be started.", "%(count)d tasks will never be started.", count)


_TOLD: Mapping[str, tuple[int, Callable[[int], str]]] = {
    "never": (messages.SUCCESS, _never_starts),
    "on": (messages.WARNING, _runs_on),
    "stopped": (messages.SUCCESS, _is_stopped),
    "unstoppable": (messages.WARNING, _cannot_be_stopped),
    "gone": (messages.SUCCESS, _is_nowhere),
}
