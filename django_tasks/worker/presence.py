"""What a worker says of itself to whoever monitors it: that it is there, how it is, and that it goes."""

import logging
import os
import platform
import threading
from collections.abc import Callable
from typing import Any, Final

from django.db import connections

from django_tasks.events import current, event
from django_tasks.events.channel import EventChannel
from django_tasks.exceptions import OperationalError
from django_tasks.version import __version__

logger = logging.getLogger("django_tasks.events")

_SOFTWARE: Final = {"sw_ident": "django_tasks", "sw_ver": __version__, "sw_sys": platform.system()}
#: Seconds that the end waits for the last word.
PATIENCE: Final = 2.0


class Presence(threading.Thread):
    """Sends worker-online, worker-heartbeat every ``interval`` seconds, and worker-offline when it is ended.

    A thread of its own, so that neither a server that is away nor the node's other chores make the worker look dead. What can't
    be sent is dropped: an old heartbeat says nothing.
    """

    def __init__(
        self,
        hostname: str,
        interval: float,
        load: Callable[[], tuple[int, int]],
        channel: Callable[[], EventChannel] = current,
    ) -> None:
        super().__init__(name="django_tasks-presence", daemon=True)
        self._hostname = hostname
        self._interval = interval
        #: Returns how many tasks run, and how many have been finished.
        self._load = load
        self._channel = channel
        self._ending = threading.Event()
        self._failing = False

    def run(self) -> None:
        """Say it until ended."""
        self._say("worker-online")
        while not self._ending.wait(self._interval):
            self._say("worker-heartbeat")
        self._say("worker-offline")
        connections.close_all()

    def end(self) -> None:
        """Say that the worker goes, and wait a moment for it."""
        self._ending.set()
        if self.is_alive():
            self.join(PATIENCE)

    def _say(self, type_: str) -> None:
        try:
            self._channel().send([event(type_, self._hostname, **self._state())])
        except OperationalError as error:
            if not self._failing:
                logger.warning("Monitors can't be told that this worker lives; they may take it for dead: %s", error)
            self._failing = True
        except Exception:
            logger.exception("The event %s could not be sent", type_)
        else:
            if self._failing:
                logger.warning("Monitors hear of this worker again")
            self._failing = False

    def _state(self) -> dict[str, Any]:
        active, processed = self._load()
        return {"freq": self._interval, "active": active, "processed": processed, "loadavg": _load_average(), **_SOFTWARE}


def _load_average() -> list[float]:
    return [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else []
