"""What is wrong with single periodic tasks: said in the log once, and again only when it has changed."""

import logging

logger = logging.getLogger("django_tasks.beat")


class Reports:
    """Remembers what was said of whom."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def broken(self, name: str, fault: str) -> None:
        """Say that an entry can't be scheduled."""
        self._say(name, f"Periodic task {name!r} can't be scheduled: {fault}. It is left out until it is changed; the others go on.")

    def unsent(self, name: str, fault: str) -> None:
        """Say that a run of an entry could not be sent."""
        self._say(name, f"A run of the periodic task {name!r} was not sent: {fault}. It is tried again when it is next due.")

    def forget(self, name: str) -> None:
        """An entry was changed, or works."""
        self._said.pop(name, None)

    def _say(self, name: str, text: str) -> None:
        if self._said.get(name) != text:
            self._said[name] = text
            logger.error(text)
