"""Members that a generator makes while they are sent, so that a group of a million calls never lies in memory as a whole."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from django_tasks import clock

#: Members that leave together, and seconds after which those that there are leave.
_MOST: Final = 1000
_LONGEST: Final = 0.1
#: Members that are kept, to be sent again; of more, none.
KEPT: Final = 10_000


class Unmade(list[Any]):
    """A list that is filled from an iterator when somebody looks at it, whatever it is that is looked for.

    ``stream`` is the way to have the members without keeping them. A list that was too long for that can't be looked at any more.
    """

    def __init__(self, source: Iterable[Any]) -> None:
        super().__init__()
        self._source: Iterator[Any] | None = iter(source)
        self._is_used_up = False

    @property
    def is_waiting(self) -> bool:
        """Whether nothing has been made yet."""
        return self._source is not None

    def stream(self) -> Iterator[Any]:
        """Yield the members as they are made."""
        source, self._source = self._source, None
        self._is_used_up = True
        count = 0
        for member in source or ():
            count += 1
            if count <= KEPT:
                list.append(self, member)
            yield member
        if count <= KEPT:
            self._is_used_up = False
        else:
            list.clear(self)

    def _made(self) -> "Unmade":
        if self._is_used_up:
            raise ValueError("the generator of this group or chord is used up: make it anew to send it again. Nothing was sent")
        if self._source is not None:
            source, self._source = self._source, None
            list.extend(self, source)
        return self

    def __iter__(self) -> Iterator[Any]:
        return list.__iter__(self._made())

    def __reversed__(self) -> Iterator[Any]:
        return list.__reversed__(self._made())

    def __len__(self) -> int:
        return list.__len__(self._made())

    def __getitem__(self, index: Any) -> Any:
        return list.__getitem__(self._made(), index)

    def __setitem__(self, index: Any, value: Any) -> None:
        list.__setitem__(self._made(), index, value)

    def __contains__(self, member: object) -> bool:
        return list.__contains__(self._made(), member)

    def __eq__(self, other: object) -> bool:
        return list.__eq__(self._made(), other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = None

    def __add__(self, other: Any) -> Any:
        return list.__add__(self._made(), other)

    def append(self, member: Any) -> None:
        """Add a member."""
        list.append(self._made(), member)

    def extend(self, members: Iterable[Any]) -> None:
        """Add members."""
        list.extend(self._made(), members)

    def copy(self) -> list[Any]:
        """Return a list of the same members."""
        return list(self)

    def __reduce__(self) -> Any:
        return list, (list(self),)

    def __repr__(self) -> str:
        return list.__repr__(self) if not self.is_waiting else "[...]"


def batches(members: Unmade) -> Iterator[tuple[list[Any], bool]]:
    """Yield members to be sent together, and whether they are the last.

    A batch leaves when it is long, or when making it took long; and never before there is one more member, so that the last one is
    known for it.
    """
    batch: list[Any] = []
    since = clock.monotonic()
    for member in members.stream():
        if batch and (len(batch) >= _MOST or clock.monotonic() - since > _LONGEST):
            yield batch, False
            batch = []
            since = clock.monotonic()
        batch.append(member)
    yield batch, True
