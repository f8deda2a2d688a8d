"""Points in an app's start that a project may wait for."""

from collections.abc import Callable
from typing import Any


class Moment:
    """A point in an app's start: ``@app.on_after_finalize.connect``. Who connects later is called at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._receivers: list[Callable[..., Any]] = []
        self._sent: dict[str, Any] | None = None

    def connect(self, receiver: Callable[..., Any] | None = None, **options: Any) -> Any:
        """Call ``receiver(sender=app, **kwargs)`` when the moment has come; also a decorator, with or without options."""
        if receiver is None:
            return self.connect
        self._receivers.append(receiver)
        if self._sent is not None:
            receiver(**self._sent)
        return receiver

    def disconnect(self, receiver: Callable[..., Any]) -> bool:
        """Forget a receiver; says whether it was connected."""
        known = receiver in self._receivers
        if known:
            self._receivers.remove(receiver)
        return known

    def send(self, **kwargs: Any) -> None:
        """Call the receivers, once in the life of the process; what they raise is the project's to see."""
        if self._sent is None:
            self._sent = kwargs
            for receiver in list(self._receivers):
                receiver(**kwargs)
