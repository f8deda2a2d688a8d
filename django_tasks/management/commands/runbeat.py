"""``manage.py runbeat``: send periodic tasks when they are due."""

import argparse
import sys
from typing import Any

from django.core.management.base import CommandParser

from django_tasks.beat import BeatOptions, run_beat
from django_tasks.management.console import LEVELS, EndsOnce, pid_file, require_modules, show_logs, without_tracebacks


class Command(EndsOnce):
    """Send periodic tasks when they are due, until told to stop. Any number may run: one leads, the others stand by."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options, by the names of Celery's beat."""
        parser.add_argument("-l", "--loglevel", type=str.upper, choices=LEVELS, default="WARNING", help="level of the django_tasks loggers")
        parser.add_argument(
            "--max-interval",
            type=_seconds,
            metavar="S",
            help="most seconds between two looks at the schedule (default: BEAT_MAX_LOOP_INTERVAL)",
        )
        parser.add_argument("-f", "--logfile", help="write logs to this file")
        parser.add_argument("--no-banner", action="store_true", help="don't print what beat works with; for logs that programs read")
        parser.add_argument("--pidfile", help="keep the process id in this file; refuse to start if a process that lives holds it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run beat and exit with its status."""
        require_modules()
        show_logs(options["loglevel"], options["logfile"], options)
        with without_tracebacks(), pid_file(options["pidfile"]):
            status = run_beat(
                BeatOptions(max_interval=options["max_interval"]), say=(lambda text: None) if options.get("no_banner") else self._say
            )
        if status:
            sys.exit(status)

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return number
