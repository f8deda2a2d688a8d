"""What the options of a call may hold: told to the caller, who can mend it, and not to a worker an hour later."""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Any, Final

from django_tasks.result.arguments import LONGEST_ID, is_id, is_number

#: Seconds, some six thousand years: later times are no datetimes.
_FARTHEST: Final = 200_000_000_000
#: Halves of pairs, which UTF-8 has no bytes for.
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_POLICY: Final = {"max_retries", "interval_start", "interval_step", "interval_max", "retry_errors"}


def is_limit(value: Any) -> bool:
    """Whether it can be a time limit: seconds, 0 for none."""
    return is_number(value) and value >= 0


def is_task_name(value: Any) -> bool:
    """Whether messages and the databases' columns can carry it as the name of a task."""
    return isinstance(value, str) and len(value) <= LONGEST_ID and value.isprintable() and not value.isspace() and value != ""


def _is_wait(value: Any) -> bool:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    return is_number(seconds) and abs(seconds) < _FARTHEST


def _is_time(value: Any) -> bool:
    if not isinstance(value, str):
        return isinstance(value, datetime)
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and _SURROGATE.search(value) is None


def _is_short(value: Any) -> bool:
    return _is_text(value) and len(value.encode()) <= LONGEST_ID


def _is_mode(value: Any) -> bool:
    return isinstance(value, int | str) and (value in DELIVERY_MODES or value in DELIVERY_MODES.values()) and value is not True


def _is_exchange(value: Any) -> bool:
    return isinstance(getattr(value, "name", value), str)


def _is_headers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _are_names(value: Any) -> bool:
    return isinstance(value, list | tuple | set | frozenset) and all(isinstance(name, str) for name in value)


def _is_policy(value: Any) -> bool:
    if not isinstance(value, Mapping) or not value.keys() <= _POLICY:
        return False
    return all(is_limit(number) or (name == "max_retries" and number is None) for name, number in value.items() if name != "retry_errors")


def _are_links(value: Any) -> bool:
    links = value if isinstance(value, list | tuple) else [value]
    return all(isinstance(link, Mapping) and isinstance(link.get("task"), str) for link in links)


#: kombu's names for whether RabbitMQ keeps a message on disk.
DELIVERY_MODES: Final[Mapping[Any, int]] = {"transient": 1, "persistent": 2}

# As tuples: a union is built anew for each call.
_ARGS: Final = (list, tuple, type(None))
_KWARGS: Final = (dict, type(None), Mapping)
_LIMIT: Final = "a number of seconds, 0 or more"
_LINK: Final = "a signature, as task.s(...) makes it"
_LINKS: Final = f"{_LINK}, or a list of them"
_TEXT: Final = "text"
_SHORT: Final = f"text of at most {LONGEST_ID} bytes"

#: What each option takes, in words and as a question.
VALUES: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "task_id": (is_id, f"text of at most {LONGEST_ID} printable characters"),
    "countdown": (_is_wait, "a number of seconds, or a timedelta"),
    "eta": (_is_time, "a datetime, or one as ISO 8601 text; for seconds from now there is countdown"),
    "expires": (lambda value: _is_wait(value) or _is_time(value), "a number of seconds, a timedelta, a datetime, or one as ISO 8601 text"),
    "time_limit": (is_limit, _LIMIT),
    "soft_time_limit": (is_limit, _LIMIT),
    "link": (_are_links, _LINKS),
    "link_error": (_are_links, _LINKS),
    "headers": (_is_headers, "a dictionary whose keys are text"),
    "shadow": (_is_text, _TEXT),
    "reply_to": (_is_text, _TEXT),
    "exchange": (_is_exchange, "an exchange's name, or a kombu Exchange"),
    "routing_key": (_is_text, _TEXT),
    "retries": (_is_count, "a whole number, 0 or more"),
    "stamped_headers": (_are_names, "a list of the stamps' names"),
    "stamps": (_is_headers, "a dictionary whose keys are text"),
    "origin": (_is_text, _TEXT),
    "app_id": (_is_short, _SHORT),
    "cluster_id": (_is_short, _SHORT),
    "message_id": (_is_short, _SHORT),
    "type": (_is_short, _SHORT),
    "user_id": (_is_short, _SHORT),
    "timestamp": (_is_count, "seconds since 1970, a whole number"),
    "delivery_mode": (_is_mode, "1 or 'transient', 2 or 'persistent'"),
    "serializer": (_is_text, "the name of a serializer, as 'json'"),
    "compression": (_is_text, "the name of a compression, as 'gzip'"),
    "retry_policy": (
        _is_policy,
        "a dictionary of numbers, max_retries (or None), interval_start, interval_step and interval_max; and retry_errors",
    ),
}


def refuse_values(name: str, options: Mapping[str, Any]) -> None:
    """Raise TypeError for the first option that holds what it can't, saying what it takes."""
    for option in options.keys() & VALUES.keys():
        value = options[option]
        accepts, takes = VALUES[option]
        if value is not None and not accepts(value):
            raise TypeError(f"{name}: {option} takes {takes}, not {value!r:.200}{_hint(option, value)}; nothing was sent")


def refuse_call(what: str, name: Any, args: Any, kwargs: Any) -> None:
    """Raise TypeError for what is no task's name, or no arguments; ``what`` says who asks."""
    if not is_task_name(name):
        takes = f"a task's name, as 'shop.tasks.pack', which is text of at most {LONGEST_ID} printable characters"
        raise TypeError(f"{what} takes {takes}, not {name!r:.300}; nothing was sent")
    if not isinstance(args, list | tuple | None) or not isinstance(kwargs, Mapping | None):
        raise TypeError(
            f"{what} takes args as a list or tuple and kwargs as a mapping, not {args!r:.100} and {kwargs!r:.100}; nothing was sent"
        )


def fit_link(link: Any) -> Any:
    """Return what is to be linked. Raises TypeError for what is no signature."""
    if not isinstance(link, Mapping) or not _are_links(link):
        raise TypeError(f"what follows a task is {_LINK}, not {link!r:.200}{_hint('link', link)}; nothing was linked")
    return link


def call_args(task: str, args: Any) -> tuple[Any, ...]:
    """Return a signature's positional arguments; a text would be one for each character."""
    if not isinstance(args or (), Iterable) or isinstance(args, str | bytes):
        raise TypeError(f"{task}: a signature takes args as a list or tuple, not {args!r:.200}")
    return tuple(args or ())


def call_kwargs(task: str, kwargs: Any) -> dict[str, Any]:
    """Return a dictionary of a signature's own for its named arguments."""
    try:
        return dict(kwargs or {})
    except (TypeError, ValueError):
        raise TypeError(f"{task}: a signature takes kwargs as a dictionary, not {kwargs!r:.200}") from None


def _hint(option: str, value: Any) -> str:
    if option in ("link", "link_error"):
        named = [found for found in (value if isinstance(value, list | tuple) else [value]) if getattr(found, "name", None)]
        return f" (did you mean {named[0].name}.s(...)?)" if named else ""
    if option == "retry_policy" and isinstance(value, Mapping):
        unknown = sorted(map(str, value.keys() - _POLICY))
        near = get_close_matches(unknown[0], _POLICY, n=1) if unknown else []
        return f" (there is no {unknown[0]!r}{f'; did you mean {near[0]!r}?' if near else ''})" if unknown else ""
    return ""
