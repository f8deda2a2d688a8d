"""``runworker --reload``: Django's autoreloader, kept alive by a process that outlives code that can't be loaded."""

import atexit
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from django.utils import autoreload

from django_tasks.importing import broken_modules

#: The exit status by which Django's reloader asks for a new start.
_CHANGED: Final = 3
#: Seconds that a worker has for its warm shutdown.
_PATIENCE: Final = 30.0


def run_reloading() -> None:
    """Run this command line without ``--reload``, again and again: when the code changes, and when code that was broken is mended.

    The outer process starts the one that watches. That one loads the project anew each time; where it can't, the outer one waits
    for a change. The worker is a third: Django's reloader needs the main thread, and a worker forks, so it can't live in a thread.
    """
    if os.environ.get(autoreload.DJANGO_AUTORELOAD_ENV) == "true":
        autoreload.autoreload_started.connect(_watch_broken_modules, weak=False)
        autoreload.run_with_reloader(_supervised_copy, worker_command())
        return
    with suppress(KeyboardInterrupt):
        sys.exit(_restarted_while_it_changes())


def worker_command() -> list[str]:
    """Return the command line of the worker itself, as Python was called: a script, or ``python -m MODULE``."""
    return [argument for argument in autoreload.get_child_arguments() if argument != "--reload"]


def _restarted_while_it_changes() -> int:
    environment = {**os.environ, autoreload.DJANGO_AUTORELOAD_ENV: "true"}
    while True:
        files = _files()
        watching = subprocess.Popen(autoreload.get_child_arguments(), env=environment, close_fds=False)  # noqa: S603  our own command line
        signal.signal(signal.SIGTERM, lambda *_, child=watching: child.terminate())
        status = watching.wait()
        if status in {0, -signal.SIGTERM}:
            return 0
        if status != _CHANGED:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            sys.stderr.write("The code can't be loaded; the worker starts again when it changes.\n")
            _await_change(files)


def _files() -> dict[Path, float]:
    reloader = autoreload.StatReloader()
    # New files, too: those that this process has loaded are not all.
    reloader.watch_dir(Path.cwd(), "**/*.py")
    return dict(reloader.snapshot_files())


def _await_change(files: dict[Path, float]) -> None:
    while _files() == files:
        time.sleep(autoreload.StatReloader.SLEEP_TIME)


def _watch_broken_modules(sender: autoreload.BaseReloader, **_kwargs: Any) -> None:
    # They are no loaded modules, which is where the reloader looks.
    sender.extra_files.update(Path(name) for module in broken_modules for name in module.files)


def _supervised_copy(command: list[str]) -> None:
    process = subprocess.Popen(command)  # noqa: S603  our own command line

    def end() -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)

    atexit.register(end)
    process.wait()
    if process.returncode:
        sys.stderr.write(f"The worker ended with status {process.returncode}; it starts again when code changes.\n")
