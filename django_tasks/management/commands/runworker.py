"""``manage.py runworker``: run background tasks."""

import argparse
import os
import sys
import threading
from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_tasks import app, log, signals
from django_tasks.conf import settings
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.management.console import LEVELS, EndsOnce, pid_file, require_modules, show_logs, without_tracebacks
from django_tasks.management.reloading import run_reloading
from django_tasks.worker import WorkerOptions, run_worker
from django_tasks.worker.options import POOLS, chosen_queues, default_concurrency, worker_name


class Command(EndsOnce):
    """Run background tasks until told to stop: SIGTERM or Ctrl-C finishes what runs, one more, a second later, stops at once."""

    help = __doc__

    def add_arguments(self, parser: CommandParser) -> None:
        """Declare the options, by the names of Celery's worker."""
        what = parser.add_argument_group("what to run")
        what.add_argument(
            "-Q",
            "--queues",
            type=_some_names,
            default=[],
            help="queues to consume, separated by commas (default: TASK_QUEUES, or the default queue)",
        )
        what.add_argument("-X", "--exclude-queues", type=_names, default=[], help="queues not to consume")
        what.add_argument("-B", "--beat", action="store_true", help="run beat inside; safe on any number of workers")
        what.add_argument("--purge", action="store_true", help="first delete every message that waits in these queues")
        what.add_argument("--drain", action="store_true", help="end when nothing is left to run now; delayed tasks stay")
        how = parser.add_argument_group("how to run it")
        how.add_argument("-P", "--pool", choices=POOLS, help="(default: WORKER_POOL)")
        how.add_argument("-c", "--concurrency", type=_at_least_one, help="tasks at once (default: one a processor; 100 for asyncio)")
        how.add_argument("--autoscale", metavar="MAX,MIN", type=_autoscale, help="between MIN and MAX processes, by load")
        how.add_argument(
            "--prefetch-multiplier",
            type=_at_least_zero,
            metavar="N",
            help="messages held for each slot (default 0: as many as can be done soon)",
        )
        how.add_argument("--max-tasks-per-child", type=_at_least_one, metavar="N", help="replace a process after N tasks")
        how.add_argument("--max-memory-per-child", type=_at_least_one, metavar="KIB", help="replace a process that holds more memory")
        how.add_argument("--time-limit", type=_seconds, metavar="S", help="seconds after which a task is killed")
        how.add_argument(
            "--soft-time-limit", type=_seconds, metavar="S", help="seconds after which SoftTimeLimitExceeded is raised in a task"
        )
        about = parser.add_argument_group("the process")
        about.add_argument("-n", "--hostname", metavar="NAME@%h", help="name of this worker (default celery@%%h)")
        about.add_argument("-l", "--loglevel", type=str.upper, choices=LEVELS, default="WARNING", help="level of the django_tasks loggers")
        about.add_argument("-f", "--logfile", help="write logs to this file")
        about.add_argument("--pidfile", help="keep the process id in this file; refuse to start if a process that lives holds it")
        about.add_argument("-E", "--task-events", "--events", action="store_true", help="tell monitors what happens to tasks")
        about.add_argument("--no-banner", action="store_true", help="don't print what the worker runs with; for logs that programs read")
        about.add_argument("--reload", action="store_true", help="restart when code changes; for development")

    def execute(self, *args: Any, **options: Any) -> str | None:
        # What watches the code must live while it is wrong; the worker that it starts checks it.
        return super().execute(*args, **{**options, "skip_checks": options.get("skip_checks") or options.get("reload")})

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the worker and exit with its status."""
        if options["reload"]:
            run_reloading()
            return
        require_modules()
        with without_tracebacks():
            self._run(options)

    def _run(self, options: dict[str, Any]) -> None:
        name = worker_name(options["hostname"])
        signals.celeryd_init.send(name, instance=None, conf=app.conf, options=options)
        try:
            worker = self._options(options)
        except ValueError as error:
            raise CommandError(str(error)) from error
        self._apply_limits(options)
        log.install_task_context()
        show_logs(options["loglevel"], options["logfile"], options)
        signals.celeryd_after_setup.send(name, instance=worker, conf=app.conf)
        with pid_file(options["pidfile"]):
            status = run_worker(worker, beat=_beat if worker.beat else None, say=self.stdout.write)
        if status:
            sys.exit(status)

    def _options(self, options: dict[str, Any]) -> WorkerOptions:
        pool = options["pool"] or settings.WORKER_POOL
        if pool == "prefork" and not hasattr(os, "fork"):
            raise ImproperlyConfigured("this system can't fork processes; run the worker with -P threads")
        most, least = options["autoscale"] or (None, None)
        if most is not None and pool != "prefork":
            raise CommandError(f"--autoscale changes the number of processes, so it needs -P prefork; the pool here is {pool}")
        return WorkerOptions(
            name=worker_name(options["hostname"]),
            queues=chosen_queues(options["queues"], options["exclude_queues"]),
            pool=pool,
            concurrency=1 if pool == "solo" else most or options["concurrency"] or settings.WORKER_CONCURRENCY or default_concurrency(pool),
            min_concurrency=least,
            max_tasks_per_child=options["max_tasks_per_child"] or settings.WORKER_MAX_TASKS_PER_CHILD,
            max_memory_per_child=options["max_memory_per_child"] or settings.WORKER_MAX_MEMORY_PER_CHILD,
            prefetch_multiplier=settings.WORKER_PREFETCH_MULTIPLIER
            if options["prefetch_multiplier"] is None
            else options["prefetch_multiplier"],
            prefetch_window=settings.WORKER_PREFETCH_WINDOW,
            lease=settings.WORKER_LEASE,
            start_timeout=settings.WORKER_PROC_ALIVE_TIMEOUT,
            heartbeat=settings.WORKER_HEARTBEAT,
            shutdown_timeout=settings.WORKER_SHUTDOWN_TIMEOUT,
            drain=options["drain"],
            beat=options["beat"],
            purge=options["purge"],
            banner=not options.get("no_banner"),
            task_events=options["task_events"] or settings.WORKER_SEND_TASK_EVENTS,
        )

    def _apply_limits(self, options: dict[str, Any]) -> None:
        # Tasks read their limits from the settings: what the command line says holds for this process and its children.
        for name in ("time_limit", "soft_time_limit"):
            if options[name] is not None:
                setattr(settings, f"TASK_{name.upper()}", options[name])


def _beat(stop: threading.Event) -> None:
    from django_tasks.beat.service import BeatService

    BeatService().run(stop)


def _names(text: str) -> list[str]:
    return [name for name in (part.strip() for part in text.split(",")) if name]


def _some_names(text: str) -> list[str]:
    # An unset variable in a service file must not make this a worker of another queue.
    names = _names(text)
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r} names no queue; leave it out to consume TASK_QUEUES, or the default queue")
    return names


def _at_least_one(text: str) -> int:
    return _whole(text, 1)


def _at_least_zero(text: str) -> int:
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return number


def _autoscale(text: str) -> tuple[int, int]:
    most, _, least = text.partition(",")
    found = _whole(most, 1), _whole(least or "1", 1)
    if found[1] > found[0]:
        raise argparse.ArgumentTypeError(f"{text!r}: the first number is the most processes, the second the fewest")
    return found
