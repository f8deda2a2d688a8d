"""``tasks dead``: list, show, replay, delete."""

from collections.abc import Callable, Mapping
from typing import Any

from django.db.models import QuerySet

from django_tasks import deadletters
from django_tasks.cli.queues import confirm
from django_tasks.cli.tables import Failure, Screen
from django_tasks.models import DeadLetter
from django_tasks.operations.contents import pretty, read

COLUMNS = ("id", "died_at", "task", "reason", "queue", "deliveries", "detail")
FILTERS = ("task", "queue", "reason")


def dead(screen: Screen, options: Mapping[str, Any]) -> int:
    """Print the newest dead letters."""
    limit = options.get("limit") or 50
    letters = _filtered(options).defer("headers", "properties", "body")
    listed = list(letters.order_by("-died_at")[: limit + 1])
    screen.rows([_line(letter) for letter in listed[:limit]], COLUMNS, empty="no dead letters")
    if len(listed) > limit:
        screen.say(f"… and more; --limit N shows more than these {limit}")
    return 0


def _filtered(options: Mapping[str, Any]) -> "QuerySet[DeadLetter]":
    return DeadLetter.objects.filter(**{name: options[name] for name in FILTERS if options.get(name)})


def _line(letter: DeadLetter) -> dict[str, Any]:
    lines = letter.detail.strip().splitlines()
    return {
        "id": letter.pk,
        "task_id": letter.task_id,
        "task": letter.task,
        "queue": letter.queue,
        "reason": letter.reason,
        "detail": lines[-1] if lines else "",
        "deliveries": letter.deliveries,
        "worker": letter.worker,
        "died_at": letter.died_at,
    }


def show(screen: Screen, options: Mapping[str, Any]) -> int:
    """Print one dead letter and what is in it."""
    letter = DeadLetter.objects.filter(pk=options["id"]).first()
    if letter is None:
        raise Failure(_none([options["id"]]))
    found = read(letter)
    message = found.message
    record = {
        **_line(letter),
        "detail": letter.detail,
        "problem": found.error,
        "args": list(message.args) if message else None,
        "kwargs": dict(message.kwargs) if message else None,
        "headers": dict(found.headers),
        "properties": dict(found.properties),
        "content_type": letter.content_type,
        "body": found.raw,
    }
    if not screen.as_json:
        record.update({name: pretty(record[name]) for name in ("args", "kwargs", "headers", "properties") if record[name] is not None})
    screen.record(record)
    return 0


def replay(screen: Screen, options: Mapping[str, Any]) -> int:
    """Send dead letters again, as they were."""
    count = deadletters.replay(_chosen(options))
    _answer(screen, "replayed", count, "sent again")
    return 0


def delete(screen: Screen, options: Mapping[str, Any], ask: Callable[[str], str] = input) -> int:
    """Delete dead letters for good, after asking where no ids are given."""
    letters = _chosen(options)
    if not options.get("ids") and not options.get("force"):
        confirm(screen, f"{letters.count()} dead letters are deleted for good.", ask)
    # _raw_delete would be quicker, but a signal receiver may keep books.
    count, _ = letters.delete()
    _answer(screen, "deleted", count, "deleted")
    return 0


def _answer(screen: Screen, key: str, count: int, done: str) -> None:
    if screen.as_json:
        screen.record({key: count})
    screen.say(f"{count} dead letter{'' if count == 1 else 's'} {done}")


def _chosen(options: Mapping[str, Any]) -> "QuerySet[DeadLetter]":
    ids = options.get("ids") or []
    if not ids and not options.get("all") and not any(options.get(name) for name in FILTERS):
        raise Failure("say which: ids, --reason, --task, --queue, or --all", status=2)
    letters = _filtered(options)
    if not ids:
        return letters
    missing = sorted(set(ids).difference(letters.filter(pk__in=ids).values_list("pk", flat=True)))
    if missing:
        raise Failure(f"{_none(missing)}; nothing was done")
    return letters.filter(pk__in=ids)


def _none(ids: list[int]) -> str:
    return f"there is no dead letter {', '.join(map(str, ids))}"
