"""What ``app.add_periodic_task`` takes: looked at where it is called, as beat could only log it hours later, elsewhere."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

from django_tasks.canvas import Signature, signature
from django_tasks.canvas.calls import refuse_misplaced
from django_tasks.canvas.optionvalues import is_limit, is_task_name
from django_tasks.result.arguments import LONGEST_ID, is_number
from django_tasks.tasks.attributes import refuse_attributes
from django_tasks.tasks.definition import Task

_NOTHING: Final = "no periodic task was added"
#: Options of a call that a task may have as attributes, too.
_ROUTING: Final = ("queue", "exchange", "routing_key", "priority", "expires")


def periodic_entry(
    schedule: Any, sig: Any, args: Any, kwargs: Any, name: str | None, options: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Return the name and the content of an entry for beat.

    Raises TypeError for what is no schedule, call, name or option, and for arguments that a known task doesn't take; ValueError
    for an interval that is none.
    """
    if not isinstance(args or (), list | tuple) or not isinstance(kwargs or {}, Mapping):
        given = f"not {args!r:.100} and {kwargs!r:.100}"
        raise TypeError(f"add_periodic_task() takes args as a list or tuple and kwargs as a mapping, {given}; {_NOTHING}")
    call = sig.clone(args, kwargs) if isinstance(sig, Signature) else signature(sig, tuple(args or ()), dict(kwargs or {}))
    if name is not None and name != "" and not is_task_name(name):
        raise TypeError(f"a periodic task's name is text of at most {LONGEST_ID} printable characters, not {name!r:.300}; {_NOTHING}")
    refuse_schedule(schedule, call.task)
    merged = {**call.options, **options}
    refuse_options(call.task, merged)
    if call.subtask_type is None:
        refuse_arguments(call.find_task(), call.args, call.kwargs)
    return name or repr(call), {"task": call.task, "schedule": schedule, "args": call.args, "kwargs": call.kwargs, "options": merged}


def refuse_schedule(schedule: Any, name: str) -> None:
    """Raise TypeError for what is no schedule, and ValueError for an interval that isn't longer than nothing."""
    if isinstance(schedule, type) and hasattr(schedule, "remaining_estimate"):
        raise TypeError(f"{name}: the schedule is the class {schedule.__name__}; did you mean {schedule.__name__}()? {_NOTHING}")
    every = schedule
    if callable(getattr(schedule, "remaining_estimate", None)):
        every = getattr(schedule, "run_every", NotImplemented)
        if every is not None and not isinstance(every, timedelta):
            # A crontab, a solar event, a single time, or a class of the project's.
            return
    seconds = every.total_seconds() if isinstance(every, timedelta) else every
    if not is_number(seconds):
        given = f"the text {schedule!r:.100}" if isinstance(schedule, str) else f"{schedule!r:.100}"
        takes = "a number of seconds, a timedelta, or an object, as crontab(hour=4), solar or clocked"
        raise TypeError(f"{name}: a schedule is {takes}, not {given}; {_NOTHING}")
    if not 0 < seconds < timedelta.max.total_seconds():
        raise ValueError(f"{name}: the interval of a schedule must be longer than nothing, which {schedule!r} isn't; {_NOTHING}")


def refuse_options(name: str, options: Mapping[str, Any], outcome: str = _NOTHING) -> None:
    """Raise TypeError for an option that no call has, or that holds what it can't."""
    given = dict(options)
    # django-celery-beat's word for it.
    seconds = given.pop("expire_seconds", None)
    if seconds is not None and not is_limit(seconds):
        raise TypeError(f"{name}: expire_seconds takes a number of seconds, 0 or more, not {seconds!r}; {outcome}")
    refuse_misplaced(name, given)
    refuse_attributes(name, [(option, given[option]) for option in _ROUTING if option in given], Task, outcome=outcome)


def refuse_arguments(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any], outcome: str = _NOTHING) -> None:
    """Raise TypeError for arguments that a task doesn't take; None is a task that this process doesn't know."""
    if task is not None and task.typing and task.check_arguments is not None:
        try:
            task.check_arguments(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{error}; {outcome}") from None
