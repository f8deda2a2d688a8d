"""The demonstration's child processes: started together, their lines prefixed, stopped together."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence

Echo = Callable[[str, str], None]


class Child:
    """One process, and the thread that passes its lines on."""

    def __init__(self, name: str, command: Sequence[str], echo: Echo, environment: Mapping[str, str], folder: str) -> None:
        self.name = name
        self.last_lines: deque[str] = deque(maxlen=12)
        # Without a session of its own: Ctrl-C in the terminal, and a kill of the whole group, reach it as well.
        self.process = subprocess.Popen(  # noqa: S603  our own commands
            [sys.executable, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=dict(environment),
            cwd=folder,
        )
        self.reader = threading.Thread(target=self._pass_on, args=(echo,), name=f"{name} output", daemon=True)
        self.reader.start()

    def _pass_on(self, echo: Echo) -> None:
        assert self.process.stdout is not None  # noqa: S101  it was asked for
        for text in self.process.stdout:
            self.last_lines.append(text.rstrip())
            echo(self.name, text.rstrip())


class Children:
    """All of them."""

    def __init__(self, echo: Echo, folder: str) -> None:
        self._echo = echo
        self._folder = folder
        self._children: list[Child] = []

    def start(self, name: str, *command: str) -> None:
        """Start one more."""
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self._children.append(Child(name, command, self._echo, environment, self._folder))

    def dead(self) -> Child | None:
        """Return one that has ended, if any has."""
        return next((child for child in self._children if child.process.poll() is not None), None)

    def stop(self, *, told: bool) -> list[str]:
        """End them all and return the names of those that had to be killed.

        ``told`` says that the terminal has sent them Ctrl-C already: a second signal at once would turn the
        worker's warm shutdown into a cold one, so they get a moment first.
        """
        if told:
            self._wait(3)
        for child in self._running():
            child.process.terminate()
        self._wait(15)
        killed = self._running()
        for child in killed:
            child.process.send_signal(signal.SIGKILL)
        for child in self._children:
            child.process.wait()
            child.reader.join(timeout=2)
        return [child.name for child in killed]

    def _running(self) -> list[Child]:
        return [child for child in self._children if child.process.poll() is None]

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self._running() and time.monotonic() < deadline:
            time.sleep(0.05)
