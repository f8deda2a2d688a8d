"""What the long-running commands share: where their logs go, and their pid file."""

import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.exceptions import ImproperlyConfigured as DjangoImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError
from django.db import Error as DatabaseError

from django_tasks import signals
from django_tasks.cli import colours
from django_tasks.dbaccess import in_words
from django_tasks.exceptions import ImproperlyConfigured, ServerRefusedError
from django_tasks.importing import broken_modules
from django_tasks.log import enable_loggers

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
FORMAT = "[%(asctime)s: %(levelname)s/%(process)d] %(message)s"


def show_logs(level: str, logfile: str | None, options: Mapping[str, Any] | None = None) -> None:
    """Make our own messages seen, and leave Django's LOGGING alone.

    ``level`` is that of the ``django_tasks`` loggers. A handler (standard error, or ``logfile``) is added only where the
    project has configured none that would show them.
    On a terminal levels are in colours, unless ``options`` (``no_color``) or NO_COLOR say otherwise.
    Celery's signals about logging are sent: what a receiver of ``setup_logging`` configures counts, too.
    """
    colorize = logfile is None and options is not None and colours.wanted(sys.stderr.isatty(), options)
    told = {"loglevel": level, "logfile": logfile, "format": FORMAT, "colorize": colorize}
    signals.setup_logging.send(None, **told)
    # A receiver may have configured all logging anew.
    enable_loggers()
    ours = logging.getLogger("django_tasks")
    ours.setLevel(level.upper())
    if logfile is not None or not ours.hasHandlers():
        handler = logging.FileHandler(logfile) if logfile else logging.StreamHandler(sys.stderr)
        handler.setFormatter((colours.ColouredLevels if colorize else logging.Formatter)(FORMAT))
        # On the root logger: where a project has no handler at all, its own records belong here, too.
        logging.getLogger().addHandler(handler)
    signals.after_setup_logger.send(None, logger=logging.getLogger(), **told)
    signals.after_setup_task_logger.send(None, logger=ours, **told)


@contextmanager
def without_tracebacks() -> Iterator[None]:
    """Raise what the project or its servers lack as CommandError: one sentence, and exit status 1 (``--traceback`` shows more)."""
    try:
        yield
    except (ServerRefusedError, ImproperlyConfigured, DjangoImproperlyConfigured) as error:
        raise CommandError(str(error)) from error
    except DatabaseError as error:
        raise CommandError(f"The database can't be used: {in_words(error)}") from error


def require_modules() -> None:
    """Raise CommandError where a module with tasks could not be imported: what runs tasks must know them all."""
    if broken_modules:
        raise CommandError("\n\n".join(f"{module}\n\n{module.traceback}" for module in broken_modules))


class EndsOnce(BaseCommand):
    """A command that stops on a signal, and that the same signal, when it comes again, does not kill on its way out."""

    def run_from_argv(self, argv: list[str]) -> None:
        """Run as a program of its own."""
        try:
            super().run_from_argv(argv)
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)


@contextmanager
def pid_file(path: str | None) -> Iterator[None]:
    """Keep this process's id in a file while the block runs.

    Raises CommandError if a process that lives holds it; a stale file is replaced.
    """
    if path is None:
        yield
        return
    file = Path(path)
    holder = _holder(file)
    if holder is not None and holder != os.getpid():
        raise CommandError(f"{file} says that process {holder} runs already. Stop it first, or name another --pidfile.")
    file.write_text(f"{os.getpid()}\n", encoding="ascii")
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _holder(file: Path) -> int | None:
    try:
        pid = int(file.read_text(encoding="ascii").strip())
        os.kill(pid, 0)
    except (FileNotFoundError, ValueError, ProcessLookupError):
        return None
    except PermissionError:
        return pid
    return pid
