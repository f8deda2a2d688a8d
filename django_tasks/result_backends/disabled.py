"""``disabled://``: no results. Says so when asked for one."""

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, ClassVar, NoReturn, Self

from django_tasks.result_backends.backend import NewChord, ReadyChord, ResultBackend, ResultMeta
from django_tasks.urls import URL


class DisabledResultBackend(ResultBackend):
    """Storing does nothing; reading and chords raise NotImplementedError, which names the setting."""

    reads: ClassVar[bool] = False

    @classmethod
    def from_url(cls, url: URL) -> Self:
        """Open ``disabled://``."""
        del url
        return cls()

    def _refuse(self, what: str) -> NoReturn:
        raise NotImplementedError(
            f"{what} needs a result backend, and none is configured: set RESULT_BACKEND, to 'db://default' for instance"
        )

    def store(self, metas: Sequence[ResultMeta]) -> None:
        """Do nothing."""

    def fetch(self, task_ids: Collection[str]) -> dict[str, ResultMeta]:
        """Refuse."""
        self._refuse("reading a task's state")

    def wait(self, task_ids: Collection[str], timeout: float | None) -> Iterator[ResultMeta]:
        """Refuse."""
        self._refuse("waiting for a result")

    def forget(self, task_ids: Collection[str]) -> None:
        """Do nothing: there is nothing to forget."""

    def store_group(self, group_id: str, members: Sequence[Any]) -> None:
        """Refuse."""
        self._refuse("saving a group")

    def fetch_group(self, group_id: str) -> Sequence[Any] | None:
        """Refuse."""
        self._refuse("restoring a group")

    def forget_group(self, group_id: str) -> None:
        """Do nothing."""

    def check_chords(self) -> None:
        """Refuse."""
        self._refuse("a chord")

    def open_chords(self, chords: Sequence[NewChord]) -> None:
        """Refuse."""
        self._refuse("a chord")

    def grow_chord(self, group_id: str, by: int, parts: Sequence[str] = ()) -> None:
        """Refuse."""
        self._refuse("a chord")

    def count_chord_parts(self, metas: Sequence[ResultMeta]) -> list[ReadyChord]:
        """Count nothing."""
        return []

    def expire(self, before: datetime, *, limit: int) -> int:
        """Delete nothing."""
        return 0
