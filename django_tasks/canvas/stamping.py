"""``StampingVisitor``: chooses the stamps of every part of a workflow."""

from abc import ABC, abstractmethod
from typing import Any

from django_tasks.canvas.groups import group
from django_tasks.canvas.signatures import Signature


class StampingVisitor(ABC):
    """Given to ``signature.stamp(visitor)``, it is asked for the stamps of every part; each method returns a dictionary.

    Only ``on_signature`` must be written. List the names that are stamps under ``stamped_headers``; without that key
    all of them are.
    """

    @abstractmethod
    def on_signature(self, sig: Signature[Any], **headers: Any) -> dict[str, Any]:
        """Return the stamps of one call."""

    def on_group_start(self, group: group, **headers: Any) -> dict[str, Any]:
        """Return stamps for all members of a group, before they are visited."""
        return {}

    def on_group_end(self, group: group, **headers: Any) -> None:
        """Hear that a group's members have been visited."""

    def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any]:
        """Return stamps for all steps of a chain, before they are visited."""
        return {}

    def on_chain_end(self, chain: Any, **headers: Any) -> None:
        """Hear that a chain's steps have been visited."""

    def on_chord_header_start(self, sig: Any, **header: Any) -> dict[str, Any]:
        """Return stamps for all parts of a chord's header; by default those of a group."""
        if not isinstance(sig.tasks, group):
            sig.tasks = group(sig.tasks)
        return self.on_group_start(sig.tasks, **header)

    def on_chord_header_end(self, sig: Any, **header: Any) -> None:
        """Hear that a chord's header has been visited; by default as the end of a group."""
        self.on_group_end(sig.tasks, **header)

    def on_chord_body(self, sig: Any, **header: Any) -> dict[str, Any]:
        """Return stamps for a chord's body."""
        return {}

    def on_callback(self, callback: Signature[Any], **header: Any) -> dict[str, Any]:
        """Return stamps for a callback."""
        return {}

    def on_errback(self, errback: Signature[Any], **header: Any) -> dict[str, Any]:
        """Return stamps for an error callback."""
        return {}
