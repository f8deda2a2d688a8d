"""Real workers in processes of their own, and waiting for what they do."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from django_tasks.result import AsyncResult

ROOT = Path(__file__).resolve().parent.parent
#: Seconds that anything may take before a test gives up; a slow machine is no failure.
DEADLINE = 50.0
#: Seconds for what happens at once, on a machine with much else to do. What it would wait for otherwise takes longer.
SOON = 20.0


def wait_until(condition: Callable[[], object], what: str, deadline: float = DEADLINE) -> None:
    """Return once the condition holds; fail, saying what was waited for, when the deadline has passed."""
    end = time.monotonic() + deadline
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"waited {deadline:.0f}s in vain: {what}")
        time.sleep(0.02)


RUNWORKER = (sys.executable, "-W", "error::RuntimeWarning", "-m", "django", "runworker", "-l", "INFO")


class WorkerProcess:
    """A worker process (``runworker``, or another command), its output as it comes."""

    def __init__(self, environment: dict[str, str], *arguments: str, command: Sequence[str] = RUNWORKER) -> None:
        self.process = subprocess.Popen(
            [*command, *arguments],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        self.lines.extend(self.process.stdout)

    @property
    def output(self) -> str:
        """All that it has printed so far."""
        return "".join(self.lines)

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        return self.process.pid

    def children(self) -> list[int]:
        """Process ids of its children, the node included."""
        try:
            return [int(pid) for pid in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]
        except FileNotFoundError:
            return []

    def says(self, text: str) -> None:
        """Wait until it has printed this."""
        wait_until(lambda: text in self.output or self.process.poll() is not None, f"{text!r} from the worker, which said:\n{self.output}")
        if text not in self.output:
            self._reader.join(10)
        assert text in self.output, f"the worker ended with {self.process.returncode} without saying {text!r}:\n{self.output}"

    def signal(self, number: int) -> None:
        """Signal the supervisor."""
        self.process.send_signal(number)

    def ends(self, deadline: float = DEADLINE) -> int:
        """Wait for its end; return the exit status."""
        try:
            return self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            pytest.fail(f"the worker did not end in {deadline:.0f}s:\n{self.output}")

    def stop(self) -> None:
        """Make sure that nothing of it is left."""
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(30)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        self._reader.join(10)
        if self.process.stdout is not None:
            self.process.stdout.close()


StartWorker = Callable[..., WorkerProcess]


def state_of(task_id: str) -> str:
    """The state as another process would read it."""
    return AsyncResult(task_id).state


def alive(pid: int) -> bool:
    """Say whether a process of this id runs (and is no zombie)."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
