"""``manage.py tasks``: call tasks, look at results, queues, workers and dead letters."""

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser, DjangoHelpFormatter

from django_tasks.cli import calls, chords, colours, dead, kinds, listening, migrating, nodes, queues, reruns
from django_tasks.cli.tables import Failure, Screen
from django_tasks.exceptions import TaskError
from django_tasks.importing import broken_modules
from django_tasks.management.console import without_tracebacks

EXAMPLES = """\
examples:
  manage.py tasks list
  manage.py tasks call shop.tasks.add -a '[2, 3]' --wait 10
  manage.py tasks call shop.tasks.report -k '{"year": 2026}' --queue slow --countdown 60
  manage.py tasks result 5b0e8a4c-4d5f-4a3e-9a51-2d0c4a4f4c5e --traceback
  manage.py tasks result 5b0e8a4c-4d5f-4a3e-9a51-2d0c4a4f4c5e --watch
  manage.py tasks rerun 5b0e8a4c-4d5f-4a3e-9a51-2d0c4a4f4c5e
  manage.py tasks queues pause slow --reason 'the supplier is down'
  manage.py tasks dead replay --reason 'unknown task'
  manage.py tasks events --type 'task-*'
  manage.py tasks migrate_from_celery --check

The exit status is 0 when all is well, 1 when nothing answered or the task failed, 2 for wrong usage.
"""


class _Formatter(DjangoHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Keeps the lines of the examples."""


class Command(BaseCommand):
    """Call tasks, look at results, queues, workers and dead letters. Celery's words; `tasks SUBCOMMAND --help` says more."""

    help = __doc__
    # Whoever looks for what is wrong must not be stopped by what is wrong.
    requires_system_checks: list[str] = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, epilog=EXAMPLES, formatter_class=_Formatter, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        commands = parser.add_subparsers(dest="subcommand", metavar="SUBCOMMAND", required=True)
        _declare_calls(commands)
        _declare_rerun(commands)
        _declare_queues(commands)
        _declare_dead(commands)
        _declare_chords(commands)
        status = _command(commands, "status", nodes.status, "The workers that live. Exit status 1 if there is none.")
        status.add_argument("--all", action="store_true", help="show those that stopped or went silent, too")
        _declare_events(commands)
        _declare_migrating(commands)
        for name in ("inspect", "control", "report"):
            late = _command(commands, name, nodes.to_come, "Comes with a later release (exit status 2).")
            late.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
        _take_djangos_options(commands)

    def handle(self, *args: Any, **options: Any) -> None:
        run: Callable[[Screen, dict[str, Any]], int] = options["run"]
        screen = Screen(
            self.stdout.write,
            as_json=bool(options.get("json")),
            flush=self.stdout.flush,
            columns=_columns(self.stdout.isatty()),
            colours=colours.wanted(self.stdout.isatty(), options),
        )
        for module in broken_modules:
            self.stderr.write(f"{module}\n    (the tasks of {module.name} are left out; `manage.py check` shows more)")
        try:
            with without_tracebacks():
                status = run(screen, options)
            self.stdout.flush()
        except Failure as failure:
            raise CommandError(str(failure), returncode=failure.status) from failure
        except TaskError as error:
            raise CommandError(f"{type(error).__name__}: {error}", returncode=1) from error
        except NotImplementedError as error:
            # Reading results where none are kept; groups where they are only sent.
            raise CommandError(str(error), returncode=1) from error
        except KeyboardInterrupt:
            status = 130
        except BrokenPipeError:
            # `| head` has seen enough; what Python would still flush goes nowhere.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            status = 0
        if status:
            sys.exit(status)


def _command(commands: Any, name: str, run: Callable[..., int], summary: str, *, as_json: str = "print one JSON document") -> CommandParser:
    parser: CommandParser = commands.add_parser(name, help=summary, description=summary)
    parser.set_defaults(run=run)
    # Suppressed, so that a nested command doesn't take back what its parent was given.
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=as_json)
    return parser


def _take_djangos_options(commands: Any) -> None:
    """Let Django's own options stand behind a subcommand, too. Django itself reads the first two wherever they stand."""
    for parser in set(commands.choices.values()):
        for option in ("--settings", "--pythonpath"):
            parser.add_argument(option, default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        for option, action in (("--no-color", "store_true"), ("--force-color", "store_true"), ("--traceback", "store_true")):
            # Some have one of that name themselves.
            if option not in parser._option_string_actions:  # noqa: SLF001  argparse tells nobody else
                parser.add_argument(option, action=action, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _declare_calls(commands: Any) -> None:
    listing = _command(commands, "list", calls.list_tasks, "The registered tasks.")
    listing.add_argument("contains", nargs="?", help="only names that contain this")
    listing.add_argument("--detail", action="store_true", help="show the arguments and options of each")
    listing.add_argument("--all", action="store_true", help="show the built-in celery.* tasks, too")

    call = _command(commands, "call", calls.call, "Send one call of a task and print its id. With --wait, exit status 1 if it fails.")
    call.add_argument("name", help="the task's name, as in `tasks list`")
    call.add_argument("-a", "--args", dest="task_args", metavar="JSON", help="positional arguments: a JSON array")
    call.add_argument("-k", "--kwargs", dest="task_kwargs", metavar="JSON", help="named arguments: a JSON object")
    call.add_argument("-Q", "--queue", type=kinds.some_queue, help="the queue (default: where TASK_ROUTES sends it)")
    call.add_argument("--countdown", type=kinds.number, metavar="SECONDS", help="run it no sooner than in so many seconds")
    call.add_argument("--eta", type=kinds.moment, metavar="TIME", help="run it no sooner than this: ISO 8601, UTC if no offset is given")
    call.add_argument("--expires", type=kinds.expires, metavar="SECONDS|TIME", help="don't run it after this")
    call.add_argument("--priority", type=int, help="larger runs sooner")
    call.add_argument("--force", action="store_true", help="send it even if no task of this name is registered here")
    _declare_wait(call, "wait for the result and print it")

    result = _command(commands, "result", calls.result, "What is known of one task. Exit status 1 if nothing is.")
    result.add_argument("id", type=kinds.identifier, help="the task's id")
    result.add_argument("--traceback", action="store_true", help="print the traceback of a failure, too")
    _declare_wait(result, "wait until it is done")
    result.add_argument(
        "--watch", nargs="?", type=kinds.wait, const=None, default=False, metavar="SECONDS",
        help="tell its state and progress until it is done; at most so many seconds, if given",
    )  # fmt: skip


def _declare_rerun(commands: Any) -> None:
    about = "Run failed tasks again, each under its own id; what was to follow it does. Exit status 1, and nothing sent, if that can't be."
    again = _command(commands, "rerun", reruns.rerun, about)
    again.add_argument("ids", nargs="+", type=kinds.identifier, metavar="ID", help="the tasks' ids; of a chord, all its failed parts")
    which = again.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="all that failed in the workflows of these tasks")
    which.add_argument("--alone", action="store_true", help="send each under a new id instead; nothing follows")


def _declare_wait(parser: CommandParser, what: str) -> None:
    parser.add_argument(
        "--wait",
        nargs="?",
        type=kinds.wait,
        const=None,
        default=False,
        metavar="SECONDS",
        help=f"{what}; at most so many seconds, if given",
    )


def _declare_queues(commands: Any) -> None:
    purge = _command(commands, "purge", queues.purge_queues, "Delete the messages that wait. What runs is left alone.")
    purge.add_argument("-Q", "--queues", type=kinds.queues, metavar="NAMES", help="names, with commas between (default: every known queue)")
    purge.add_argument("-f", "--force", action="store_true", help="don't ask")

    listing = _command(commands, "queues", queues.queues, "Every known queue: how much waits, who consumes, whether it is paused.")
    nested = listing.add_subparsers(metavar="pause|resume")
    pause = _command(nested, "pause", queues.pause_queues, "Let workers take nothing more from these queues.")
    pause.add_argument("names", nargs="+", type=kinds.queue, metavar="NAME", help="the queue")
    pause.add_argument("--reason", type=kinds.words, help="for those who wonder; the admin shows it")
    resume = _command(nested, "resume", queues.resume_queues, "Let workers take from these queues again. Exit status 1 if none was paused.")
    resume.add_argument("names", nargs="+", type=kinds.queue, metavar="NAME", help="the queue")


def _declare_dead(commands: Any) -> None:
    listing = _command(commands, "dead", dead.dead, "Dead letters: messages that went wrong for good, newest first.")
    _declare_filters(listing)
    listing.add_argument("--limit", type=kinds.limit, metavar="N", help="show at most so many (default: 50)")
    nested = listing.add_subparsers(metavar="list|show|replay|delete")
    again = _command(nested, "list", dead.dead, "The dead letters, newest first.")
    _declare_filters(again)
    again.add_argument("--limit", type=kinds.limit, default=argparse.SUPPRESS, metavar="N", help="show at most so many (default: 50)")
    show = _command(nested, "show", dead.show, "One dead letter and what is in it.")
    show.add_argument("id", type=kinds.row, help="the number that the list shows")
    replay = _command(nested, "replay", dead.replay, "Send dead letters again, as they were, to their queues.")
    delete = _command(nested, "delete", dead.delete, "Delete dead letters for good.")
    delete.add_argument("-f", "--force", action="store_true", help="don't ask")
    for parser in (replay, delete):
        parser.add_argument("ids", nargs="*", type=kinds.row, metavar="ID", help="the numbers that the list shows")
        parser.add_argument("--all", action="store_true", help="every dead letter (or every one that the filters leave)")
        _declare_filters(parser)


def _declare_chords(commands: Any) -> None:
    listing = _command(commands, "chords", chords.chords, "Chords that wait for parts, the oldest first.")
    listing.add_argument("--limit", type=kinds.limit, metavar="N", help="show at most so many (default: 50)")
    nested = listing.add_subparsers(metavar="recount|fail")
    about = "Count chords again from the stored results of their parts; the bodies of those that are complete are sent."
    recount = _command(nested, "recount", chords.recount, about)
    recount.add_argument("ids", nargs="*", type=kinds.identifier, metavar="GROUP_ID", help="the groups that the list shows (default: all)")
    about = "End chords whose parts will never come: their bodies get a ChordError, and their error callbacks are called."
    fail = _command(nested, "fail", chords.fail, about)
    fail.add_argument("ids", nargs="+", type=kinds.identifier, metavar="GROUP_ID", help="the groups that the list shows")
    fail.add_argument("--reason", type=kinds.words, help="what the error says")


def _declare_migrating(commands: Any) -> None:
    summary = "What a project that uses Celery has to change, line by line. Reads only. Exit status 1 if something must change."
    moving = _command(commands, "migrate_from_celery", migrating.migrate_from_celery, summary)
    moving.add_argument("paths", nargs="*", metavar="PATH", help="folders and files to read (default: the project)")
    moving.add_argument("--check", action="store_true", help="look, and write nothing; that is all it does, with or without this")
    moving.add_argument("--diff", action="store_true", help="print a patch of the import lines instead")


def _columns(is_terminal: bool) -> int:
    """How wide the terminal is; 0 where there is none, or one that can't go back in a line."""
    return shutil.get_terminal_size().columns if is_terminal and os.environ.get("TERM") != "dumb" else 0


def _declare_filters(parser: CommandParser) -> None:
    for name in dead.FILTERS:
        parser.add_argument(f"--{name}", type=kinds.words, default=argparse.SUPPRESS, help=f"only those of this {name}")


def _declare_events(commands: Any) -> None:
    about = "What workers and tasks do, a line an event, until Ctrl-C. With --timeout, exit status 1 if nothing came."
    events = _command(commands, "events", listening.listen, about, as_json="print each event as a JSON document, one a line")
    events.add_argument("-d", "--dump", action="store_true", help="accepted from Celery: lines are all there is")
    events.add_argument("--type", metavar="PATTERN", help="only events of these types, as 'task-*' or worker-heartbeat")
    events.add_argument("--timeout", type=kinds.wait, metavar="SECONDS", help="end after so many seconds")
    events.add_argument("--limit", type=kinds.limit, metavar="N", help="end after so many events")
