"""A server that is away: how long to wait between two tries, what is worth a line in the log, and when to give up."""

import logging
from dataclasses import dataclass
from typing import Final

from django_tasks import clock
from django_tasks.conf import settings
from django_tasks.urls import mask

logger = logging.getLogger("django_tasks.worker")

#: Seconds between two tries: first, and at most.
BACKOFF: Final = (0.1, 3.0)
#: Seconds between two lines in the log while it lasts.
REMIND: Final = 30.0


@dataclass(frozen=True, slots=True)
class Endurance:
    """What BROKER_CONNECTION_RETRY and its kin say: how many failures in a row are endured (None: any number), and why no more."""

    most: int | None
    because: str = ""


def endurance(*, starting: bool) -> Endurance:
    """Read the settings. ``starting``: the broker has not answered this worker yet."""
    name, retry = "BROKER_CONNECTION_RETRY", settings.BROKER_CONNECTION_RETRY
    if starting and settings.BROKER_CONNECTION_RETRY_ON_STARTUP is not None:
        name, retry = "BROKER_CONNECTION_RETRY_ON_STARTUP", settings.BROKER_CONNECTION_RETRY_ON_STARTUP
    if not retry:
        return Endurance(0, f"{name} is off")
    most = settings.BROKER_CONNECTION_MAX_RETRIES
    return Endurance(most, f"BROKER_CONNECTION_MAX_RETRIES is {most}")


class Outage:
    """Failures in a row, from the first to the next success."""

    def __init__(self) -> None:
        self.failures = 0
        self._began = 0.0
        self._said_at = 0.0
        self._said = ""

    def failed(self, what: str, error: Exception) -> float:
        """Count a failure to reach ``what``; return how many seconds to wait before the next try.

        The first one is logged, then one each half minute, and one that has another reason.
        """
        now = clock.monotonic()
        if self.failures == 0:
            self._began = now
        first, most = BACKOFF
        delay = min(most, first * 2.0 ** min(self.failures, 10))
        self.failures += 1
        if self.failures == 1:
            logger.error("%s can't be reached; trying again until it can: %s", what, error)
            self._said, self._said_at = str(error), now
        elif now - self._said_at >= REMIND or (str(error) != self._said and now - self._said_at >= BACKOFF[1]):
            logger.error("%s can't be reached for %.0fs now; trying again: %s", what, now - self._began, error)
            self._said, self._said_at = str(error), now
        return delay

    def succeeded(self, what: str) -> None:
        """Note that it answers; end the outage if there was one."""
        if self.failures:
            # As loud as the word that it was away.
            logger.warning("%s answers again, after %.1fs", what, clock.monotonic() - self._began)
            self.failures = 0


def broker_in_words() -> str:
    """Name the broker as logs do, without its password."""
    return f"The broker {mask(settings.BROKER_URL)}"


def servers_in_words() -> str:
    """Name broker and results as logs do, without their passwords."""
    results = mask(settings.RESULT_BACKEND or "disabled://")
    broker = broker_in_words()
    return broker if results == mask(settings.BROKER_URL) else f"{broker}, or the results {results},"
