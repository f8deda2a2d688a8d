"""``make demo``: site, worker and beat in one terminal, and work for them to do.

    demo.py [--exit] [--port 8000]

``--exit`` ends by itself: with 0 once the work is done and a periodic task has run, with 1 and a sentence
if that takes longer than a minute or one of the processes ends.
"""

import argparse
import os
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

from rich.console import Console  # noqa: E402
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: E402
from rich.table import Table  # noqa: E402
from rich.text import Text  # noqa: E402

from children import Children  # noqa: E402

if TYPE_CHECKING:
    from django_tasks.result import AsyncResult

COLOURS = {"site": "cyan", "worker": "green", "beat": "magenta", "demo": "bold yellow"}
ORDERS = (("ada@example.org", "assam", False), ("grace@example.org", "sencha", True), ("alan@example.org", "oolong", False))
#: More than anybody waits for it: a machine that does much else takes minutes.
SECONDS = 200
console = Console(highlight=False, soft_wrap=True)


class Failed(Exception):
    """The demonstration can't go on; the text says why and what to do."""


def echo(name: str, line: str) -> None:
    """Print one line of one process."""
    console.print(Text.assemble((f"{name:<6} ", COLOURS[name]), ("│ ", "dim"), Text.from_ansi(line)))


def say(line: str) -> None:
    """Print one line of ours."""
    echo("demo", line)


def free(port: int) -> None:
    """Make sure that the site can have its port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Failed(f'port {port} can\'t be had ({error.strerror}); choose another: make demo ARGS="--port {port + 1}"') from error


def prepare() -> None:
    """Migrate, make the login and the schedules; what is there already stays."""
    import django
    from django.core.management import call_command

    django.setup()
    from django.contrib.auth import get_user_model
    from django_celery_beat.models import IntervalSchedule, PeriodicTask

    call_command("migrate", verbosity=0, interactive=False)
    users = get_user_model().objects
    if not users.filter(username="demo").exists():
        users.create_superuser("demo", "demo@example.org", "demo")
    every, _ = IntervalSchedule.objects.get_or_create(every=3, period=IntervalSchedule.SECONDS)
    PeriodicTask.objects.get_or_create(name="count the orders", defaults={"task": "shop.tasks.take_snapshot", "interval": every})


class Demo:
    """One run of the demonstration."""

    def __init__(self, port: int, *, leave: bool) -> None:
        self.port = port
        self.leave = leave
        self.children = Children(echo, str(HERE))
        self.deadline = time.monotonic() + SECONDS

    def run(self) -> None:
        """Start everything, send the work, watch it, tell what came of it."""
        from shop import tasks
        from shop.models import Snapshot

        newest = Snapshot.objects.order_by("-id").values_list("id", flat=True).first() or 0
        self.children.start("site", "manage.py", "runserver", "--noreload", f"127.0.0.1:{self.port}")
        self.children.start("worker", "manage.py", "runworker", "-c", "2", "-l", "INFO")
        self.children.start("beat", "manage.py", "runbeat", "-l", "INFO")
        for customer, tea, express in ORDERS:
            tasks.place_order(customer, tea, express=express)
        tasks.check_suppliers.delay()
        tasks.import_prices.delay()
        self.show(self.watch(tasks.analyse_day()))
        self.wait(lambda: Snapshot.objects.filter(pk__gt=newest).exists(), "no periodic task has run")
        say("a periodic task has run: beat is alive")
        say(f"site   http://127.0.0.1:{self.port}/    report http://127.0.0.1:{self.port}/report/")
        say(f"admin  http://127.0.0.1:{self.port}/admin/    login demo, password demo")
        if not self.leave:
            say("running; Ctrl-C stops everything")
            while True:
                self.look()
                time.sleep(0.2)

    def watch(self, result: "AsyncResult") -> dict[str, Any]:
        """Show how many files are done until the report is."""
        assert result.parent is not None  # noqa: S101  a chain's last step has one
        files = result.parent.parent
        columns = (TextColumn("{task.description}"), BarColumn(40), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
            bar = progress.add_task("analysing access logs", total=len(files))
            said = 0

            def done() -> bool:
                nonlocal said
                count = files.completed_count()
                progress.update(bar, completed=count)
                if not console.is_terminal and count >= said + len(files) // 4:
                    said = count
                    say(f"analysing access logs: {count} of {len(files)}")
                return bool(result.ready())

            say(f"{len(files)} access logs are to be analysed, then one report written")
            self.wait(done, "the report is not there")
            progress.update(bar, completed=len(files))
        return result.get(timeout=5)

    def show(self, found: dict[str, Any]) -> None:
        """Print the result."""
        table = Table(title="A day at the tea shop", title_justify="left", show_header=False)
        for name, value in found.items():
            if name != "path":
                table.add_row(name.replace("_", " "), f"{value:,}" if isinstance(value, int) else str(value))
        console.print(table)
        say(f"report {found['path']}")

    def wait(self, reached: Any, otherwise: str) -> None:
        """Wait until something is so, every process lives, and there is time left."""
        while not reached():
            self.look()
            if time.monotonic() > self.deadline:
                raise Failed(f"{otherwise} after {SECONDS} seconds; what the worker and beat said is above")
            time.sleep(0.1)

    def look(self) -> None:
        """See that every process lives."""
        child = self.children.dead()
        if child is not None:
            child.reader.join(timeout=2)
            raise Failed(f"{child.name} has ended with status {child.process.returncode}; its last words are above")


def stop_on_signal(signum: int, frame: FrameType | None) -> None:
    """SIGTERM ends the demonstration as Ctrl-C does."""
    raise SystemExit(0)


def main() -> int:
    """Run the demonstration and return its exit status."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exit", action="store_true", help="end with status 0 once the work is done")
    parser.add_argument("--port", type=int, default=8000, help="the site's port (8000)")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, stop_on_signal)
    told = False
    demo = Demo(options.port, leave=options.exit)
    try:
        free(options.port)
        prepare()
        demo.run()
    except Failed as failure:
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        told = True
        say("stopping")
    finally:
        # From here on nothing may stop the stopping.
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, signal.SIG_IGN)
        killed = demo.children.stop(told=told)
        if killed:
            say(f"had to be killed: {', '.join(killed)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
