"""``tasks queues`` and ``tasks purge``."""

import getpass
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from difflib import get_close_matches
from typing import Any

from django_tasks.cli.tables import Failure, Screen
from django_tasks.operations.queues import known_names, overview, pause, purge, resume

COLUMNS = ("name", "size", "delayed", "workers", "paused", "paused_by", "reason")


def queues(screen: Screen, options: Mapping[str, Any]) -> int:
    """Print every known queue: how much waits, who consumes, whether it is paused."""
    rows = [{**asdict(one), "paused": one.paused} for one in overview()]
    screen.rows(rows, COLUMNS)
    return 0


def pause_queues(screen: Screen, options: Mapping[str, Any]) -> int:
    """Let workers take nothing more from some queues."""
    names: Sequence[str] = options["names"]
    _warn_of_unknown(screen, names)
    count = pause(names, by=user(), reason=options.get("reason") or "")
    _report(screen, names)
    already = len(set(names)) - count
    screen.say(f"{count} paused; workers notice within two seconds" + (f" ({already} paused before)" if already else ""))
    return 0


def resume_queues(screen: Screen, options: Mapping[str, Any]) -> int:
    """Let workers take from some queues again; 1 if none of them was paused."""
    names: Sequence[str] = options["names"]
    count = resume(names)
    _report(screen, names)
    if not count:
        known = known_names()
        raise Failure(f"none of these queues was paused: {', '.join(name + _meant(name, known) * (name not in known) for name in names)}")
    screen.say(f"{count} resumed")
    return 0


def _report(screen: Screen, names: Sequence[str]) -> None:
    if screen.as_json:
        screen.rows([{**asdict(one), "paused": one.paused} for one in overview(names)], COLUMNS)


def _warn_of_unknown(screen: Screen, names: Sequence[str]) -> None:
    known = known_names()
    for name in sorted(set(names).difference(known)):
        screen.say(f"nobody knows {name} so far{_meant(name, known)}; paused all the same")


def _meant(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def user() -> str:
    """Name who types commands here."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (OSError, KeyError):
        # A container's user id need not have a name.
        return "command line"


def purge_queues(screen: Screen, options: Mapping[str, Any], ask: Callable[[str], str] = input) -> int:
    """Delete what waits in some queues, or in all of them, after asking."""
    names = list(options.get("queues") or known_names())
    known = known_names()
    for name in sorted(set(names).difference(known)):
        screen.say(f"nobody knows the queue {name}{_meant(name, known)}")
    if not options.get("force"):
        confirm(screen, _sizes(names), ask)
    lost = purge(names)
    if screen.as_json:
        screen.rows([{"name": name, "purged": count} for name, count in lost.items()], ["name", "purged"])
    total = sum(lost.values())
    screen.say(f"{total} message{'' if total == 1 else 's'} deleted from {len(lost)} queue{'' if len(lost) == 1 else 's'}")
    return 0


def _sizes(names: Sequence[str]) -> str:
    sizes = ", ".join(f"{one.name} ({'?' if one.size is None else one.size})" for one in overview(names))
    return f"Every message that waits in these queues is deleted, delayed ones too: {sizes}."


def confirm(screen: Screen, what: str, ask: Callable[[str], str]) -> None:
    """Go on only when a person types yes; with ``--json`` nobody can be asked."""
    if screen.as_json:
        raise Failure("--json can't ask back: add --force")
    screen.say(what)
    try:
        answer = ask("Type 'yes' to go on: ")
    except EOFError:
        answer = ""
    if answer.strip().lower() not in {"yes", "y"}:
        raise Failure("nothing was deleted")
