"""Which tasks are not to run any more: a bounded memory of ids, and of stamps."""

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Final

from django_tasks.messages import LIFTED, TaskMessage
from django_tasks.serializers import dumps_json, loads_json

#: Revoked tasks that a process knows, the latest ones.
REMEMBERED: Final = 50_000


class RevokedStamps:
    """Stamps, given as pairs of a name and a value in JSON; false if there are none. It is not changed, but replaced."""

    def __init__(self, stamps: Iterable[tuple[str, str]] = ()) -> None:
        #: The values of each name; looked at for every message, so an attribute.
        self.values: dict[str, set[Hashable]] = {}
        for name, value in stamps:
            self.values.setdefault(name, set()).add(_comparable(loads_json(value)))

    def __bool__(self) -> bool:
        return bool(self.values)

    def match(self, message: TaskMessage) -> bool:
        """Whether one of the task's stamps is one of these values, or is a list with one of them."""
        return any(
            not self.values[name].isdisjoint(_values_of(message.stamps.get(name)))
            for name in message.stamped_headers or ()
            if name in self.values
        )


def _values_of(stamp: Any) -> Iterable[Hashable]:
    if stamp is None:
        return ()
    return map(_comparable, stamp) if isinstance(stamp, list | tuple | set | frozenset) else (_comparable(stamp),)


def _comparable(value: Any) -> Hashable:
    """Return what can be looked up: for lists and dictionaries their JSON, which is no text to be taken for one."""
    return ("JSON", dumps_json(value)) if isinstance(value, list | tuple | dict) else value


class RevokedTasks:
    """Ids, the oldest forgotten first once ``limit`` is reached. Only admission and the command handler use it."""

    def __init__(self, limit: int = REMEMBERED) -> None:
        self._limit = limit
        self._ids: OrderedDict[str, int] = OrderedDict()
        #: Whether all that was revoked before the worker started has been read.
        self.complete = False
        #: Stamps whose tasks are not to run, either.
        self.stamps = RevokedStamps()

    def add(self, revocations: Mapping[str, int]) -> None:
        """Remember these ids, each with the number of its revocation; later ones have larger numbers."""
        for task_id, number in revocations.items():
            if self._ids.get(task_id, -1) < number:
                self._ids[task_id] = number
                self._ids.move_to_end(task_id)
        while len(self._ids) > self._limit:
            self._ids.popitem(last=False)

    def obey(self, command: Mapping[str, Any]) -> bool:
        """Take what the node has read; False if the command is about something else."""
        match command:
            case {"do": "revoked", "tasks": tasks}:
                self.add(tasks)
            case {"do": "revoked_stamps", "stamps": stamps}:
                self.stamps = RevokedStamps(stamps)
            case _:
                return False
        return True

    def forbids(self, message: TaskMessage) -> bool:
        """Whether the task was revoked; one that was sent again after that, only if it was revoked once more."""
        if self.stamps.values and message.stamped_headers and self.stamps.match(message):
            return True
        number = self._ids.get(message.id)
        if number is None:
            return False
        lifted = message.headers.get(LIFTED)
        return not isinstance(lifted, int) or number > lifted

    def __len__(self) -> int:
        return len(self._ids)
