"""``tasks events``: a line for each monitoring event, as it comes."""

import json
import sys
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any, Final

from django_tasks import clock, events
from django_tasks.cli.tables import Failure, Screen
from django_tasks.conf import settings
from django_tasks.events import Event, EventReceiver
from django_tasks.exceptions import OperationalError
from django_tasks.urls import mask

#: What Celery's dump calls these.
_WORDS: Final[Mapping[str, str]] = {"worker-online": "started", "worker-heartbeat": "heartbeat", "worker-offline": "shutdown"}
#: Most tasks whose names are remembered, for events that don't tell them.
_NAMES: Final = 4096
#: Seconds until a lost connection is tried again.
_AGAIN: Final = 1.0


def listen(screen: Screen, options: Mapping[str, Any]) -> int:
    """Print events until there are enough, the time is up, or Ctrl-C; 1 if none came in that time."""
    limit, timeout, pattern = options["limit"], options["timeout"], options["type"]
    dumper, count = Dumper(), 0
    try:
        with events.current().listen() as receiver:
            _note(f"-> listening to the events of {mask(settings.BROKER_URL)}; Ctrl-C ends it")
            for event in _arriving(receiver, timeout):
                line = dumper.line(event)
                if pattern and not fnmatchcase(str(event["type"]), pattern):
                    continue
                screen.stream(json.dumps(event, default=str, ensure_ascii=False) if screen.as_json else line)
                count += 1
                if limit and count >= limit:
                    break
    except KeyboardInterrupt:
        return 0
    if not count and timeout is not None:
        raise Failure(f"no event came within {timeout:g} seconds; workers tell of their tasks with `manage.py runworker -E`")
    return 0


def _arriving(receiver: EventReceiver, timeout: float | None) -> Iterator[Event]:
    deadline = None if timeout is None else clock.monotonic() + timeout
    while (left := None if deadline is None else deadline - clock.monotonic()) is None or left > 0:
        try:
            yield from receiver.receive(left)
        except OperationalError as error:
            _note(f"-> {error}; trying again, what is sent meanwhile may be missed")
            time.sleep(_AGAIN)


def _note(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


class Dumper:
    """Writes events as ``celery events --dump`` does; remembers the names of tasks, which most events don't tell."""

    def __init__(self) -> None:
        self._names: OrderedDict[str, str] = OrderedDict()

    def line(self, event: Event) -> str:
        """Write one event in one line."""
        rest = dict(event)
        type_, hostname, timestamp = str(rest.pop("type")).lower(), rest.pop("hostname", ""), rest.pop("timestamp", None)
        moment = "" if timestamp is None else f" [{datetime.fromtimestamp(timestamp, UTC)}]"
        task = f"{self._task(type_, rest)} " if type_.startswith("task-") else ""
        fields = ", ".join(f"{name}={rest[name]}" for name in sorted(rest))
        what = _WORDS.get(type_, type_.replace("-", " "))
        return " ".join(f"{hostname}{moment} {what}{':' if fields else ''} {task}{fields}".splitlines()).rstrip()

    def _task(self, type_: str, rest: dict[str, Any]) -> str:
        uuid = str(rest.pop("uuid", ""))
        if type_ in {"task-received", "task-sent"}:
            self._names[uuid] = f"{rest.pop('name', None)}({uuid}) args={rest.pop('args', None)} kwargs={rest.pop('kwargs', None)}"
            while len(self._names) > _NAMES:
                self._names.popitem(last=False)
        return self._names.get(uuid, uuid)
