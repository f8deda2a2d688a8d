"""The Lua scripts, by name. Servers remember them by their digests."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from django_tasks.brokers.redis.lines import Line


@dataclass(frozen=True, slots=True)
class Script:
    """One script: its text, and the digest under which a server knows it."""

    text: str
    digest: str

    def call(self, line: Line, keys: Sequence[str], *args: Any) -> Any:
        """Run it; a server that has forgotten it (restarted, SCRIPT FLUSH) is told again. Raises redis-py's errors."""
        try:
            return line.call("EVALSHA", self.digest, len(keys), *keys, *args)
        except NoScriptError:
            return line.call("EVAL", self.text, len(keys), *keys, *args)


@cache
def script(name: str) -> Script:
    """Return the script of the file ``lua/NAME.lua``."""
    text = files("django_tasks.brokers.redis").joinpath("lua", f"{name}.lua").read_text(encoding="utf-8")
    return Script(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
