"""Mappings in two layers: what many messages have in common, and what is one message's own.

Most headers of a task's calls are the same each time. A codec that knows of the layers writes the common one once.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

#: How many shared layers are remembered, and how many written forms of them in each codec.
MOST_SHARED: Final = 256


class Shared(dict[str, Any]):
    """Entries that many mappings have in common. Never changed; hashed by identity, so that codecs can remember its written form."""

    __slots__ = ()
    __hash__ = object.__hash__  # type: ignore[assignment]


class Layered(Mapping[str, Any]):
    """A mapping that knows which of its entries it shares. No name is in both layers, and its own is never empty."""

    __slots__ = ("own", "shared")

    def __init__(self, shared: Shared, own: Mapping[str, Any]) -> None:
        self.shared = shared
        self.own = own

    def __getitem__(self, name: str) -> Any:
        own = self.own
        return own[name] if name in own else self.shared[name]

    def get(self, name: str, default: Any = None) -> Any:
        """Return a value, or the default."""
        own = self.own
        return own[name] if name in own else self.shared.get(name, default)

    def __iter__(self) -> Iterator[str]:
        yield from self.shared
        yield from self.own

    def __len__(self) -> int:
        return len(self.shared) + len(self.own)

    def __repr__(self) -> str:
        return repr({**self.shared, **self.own})


def layers(mapping: Mapping[str, Any]) -> tuple[Shared, Mapping[str, Any]]:
    """Return what a mapping shares with others and what is its own: all of it, unless it is a layered one."""
    return (mapping.shared, mapping.own) if type(mapping) is Layered else (_NOTHING, mapping)


def changeable(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """Return a dict that may be changed, down to the lists and dicts in the shared layer, without changing other mappings."""
    shared, own = layers(mapping)
    return {**{name: value.copy() if isinstance(value, dict | list) else value for name, value in shared.items()}, **own}


_NOTHING: Final = Shared()
