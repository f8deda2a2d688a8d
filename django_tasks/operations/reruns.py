"""Which tasks were run again, when, by whom and as which."""

from collections.abc import Collection, Iterable, Sequence

from django.utils import timezone

from django_tasks.models import Rerun

#: Ids of one question.
_CHUNK = 500


def note(pairs: Iterable[tuple[str, str]], *, by: str) -> None:
    """Record that these tasks were run again, each with the id that it has now."""
    now = timezone.now()
    made = [Rerun(task_id=old[:255], new_id=new[:255], run_at=now, run_by=by[:255]) for old, new in pairs]
    Rerun.objects.bulk_create(made, batch_size=_CHUNK)


def reruns_of(task_ids: Collection[str]) -> list[Rerun]:
    """Return how these tasks were run again, the first first."""
    wanted: Sequence[str] = sorted(set(task_ids))
    found: list[Rerun] = []
    for start in range(0, len(wanted), _CHUNK):
        found += Rerun.objects.filter(task_id__in=wanted[start : start + _CHUNK]).order_by("id")
    return found


def origin_of(task_id: str) -> Rerun | None:
    """Return the rerun that a task came from, if it was no task of its own from the beginning."""
    return Rerun.objects.filter(new_id=task_id).exclude(task_id=task_id).order_by("-id").first()
