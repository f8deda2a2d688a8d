"""Celery's command line, and ours: data. What is said of an option stands here; how lines are read, in ``commandlines``."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

_SERVICE: Final = "the service manager's"
_NOT_NEEDED: Final = "not needed"
_NONE: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Command:
    """A command of Celery's: what to type instead, what becomes of its options.

    ``kept`` maps each spelling to ours; ``dropped`` says why an option is left out. ``takes`` are the spellings that have a value.
    Without ``instead`` there is no counterpart, and ``note`` says so.
    """

    instead: str = ""
    kept: Mapping[str, str] = field(default_factory=lambda: _NONE)
    dropped: Mapping[str, str] = field(default_factory=lambda: _NONE)
    takes: frozenset[str] = frozenset()
    note: str = ""


#: Options before, or after, the command's name.
GLOBAL: Final[Mapping[str, str]] = {
    "-A": "",
    "--app": "",
    "-b": "set BROKER_URL",
    "--broker": "set BROKER_URL",
    "--result-backend": "set RESULT_BACKEND",
    "--loader": "no counterpart",
    "--config": "settings are Django's",
    "--workdir": "change the folder first",
    "-C": _NOT_NEEDED,
    "--no-color": "",
    "-q": _NOT_NEEDED,
    "--quiet": _NOT_NEEDED,
    "--skip-checks": _NOT_NEEDED,
}
GLOBAL_TAKES: Final = frozenset({"-A", "--app", "-b", "--broker", "--result-backend", "--loader", "--config", "--workdir"})


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


_DAEMON: Final = {"-D": _SERVICE, "--detach": _SERVICE, "--uid": _SERVICE, "--gid": _SERVICE, "--umask": _SERVICE, "--executable": _SERVICE}
_DAEMON_TAKES: Final = frozenset({"--uid", "--gid", "--umask", "--executable"})
_LOG: Final = {**_same("-l", "--loglevel", "-f", "--logfile", "--pidfile")}

_WORKER_KEPT: Final = {
    **_LOG,
    **_same("-n", "--hostname", "-c", "--concurrency", "-P", "--pool", "-Q", "--queues", "-X", "--exclude-queues", "--autoscale"),
    **_same("--prefetch-multiplier", "--time-limit", "--soft-time-limit", "--max-tasks-per-child", "--max-memory-per-child"),
    **_same("-B", "--beat", "--purge", "-E", "--task-events", "--events"),
    "--discard": "--purge",
    "--maxtasksperchild": "--max-tasks-per-child",
}
_WORKER_DROPPED: Final = {
    **_DAEMON,
    "-O": "not needed: a process claims what it can finish in WORKER_PREFETCH_WINDOW",
    "--optimization": "not needed: a process claims what it can finish in WORKER_PREFETCH_WINDOW",
    "-Ofair": "not needed: a process claims what it can finish in WORKER_PREFETCH_WINDOW",
    "--disable-prefetch": "set WORKER_PREFETCH_WINDOW to 0",
    "-I": "set INCLUDE",
    "--include": "set INCLUDE",
    "-S": "not needed: revoked tasks are rows",
    "--statedb": "not needed: revoked tasks are rows",
    "-s": "not needed: schedules and last runs are rows",
    "--schedule": "not needed: schedules and last runs are rows",
    "--schedule-filename": "not needed: schedules and last runs are rows",
    "--scheduler": "not needed: beat reads django-celery-beat's tables",
    "--without-gossip": "not needed: there is no gossip",
    "--without-mingle": "not needed: workers don't mingle",
    "--without-heartbeat": "no counterpart: heartbeats keep what a worker holds",
    "--heartbeat-interval": "set WORKER_HEARTBEAT",
    "--pool-start-method": "no counterpart: processes are forked",
}
_FLAGS: Final = frozenset(
    {"-B", "--beat", "--purge", "--discard", "-D", "--detach", "-E", "--task-events", "--events", "--disable-prefetch", "-Ofair"}
    | {"--without-gossip", "--without-mingle", "--without-heartbeat"}
)
_BEAT_DROPPED: Final = {
    **_DAEMON,
    "-s": "not needed: schedules and last runs are rows",
    "--schedule": "not needed: schedules and last runs are rows",
    "-S": "not needed: beat reads django-celery-beat's tables",
    "--scheduler": "not needed: beat reads django-celery-beat's tables",
    "--enable-remote-control": "no counterpart",
    "--no-enable-remote-control": _NOT_NEEDED,
    "-n": "no counterpart",
    "--hostname": "no counterpart",
}
_EVENTS_DROPPED: Final = {
    **_DAEMON,
    **dict.fromkeys(("-c", "--camera", "-F", "--freq", "--frequency", "-r", "--maxrate"), "no counterpart: keep an app.events.State"),
    **dict.fromkeys(("-l", "--loglevel", "-f", "--logfile", "--pidfile"), _NOT_NEEDED),
}
_EVENTS_TAKES: Final = frozenset({*_EVENTS_DROPPED} - {"-D", "--detach"})
_CALL: Final = {
    **_same("-a", "--args", "-k", "--kwargs", "--countdown", "--eta", "--expires", "--queue"),
    "-Q": "-Q",
}

#: Celery's commands by name.
COMMANDS: Final[Mapping[str, Command]] = {
    "worker": Command("runworker", _WORKER_KEPT, _WORKER_DROPPED, frozenset({*_WORKER_KEPT, *_WORKER_DROPPED} - _FLAGS)),
    "beat": Command(
        "runbeat",
        {**_LOG, "--max-interval": "--max-interval"},
        _BEAT_DROPPED,
        frozenset({*_LOG, "--max-interval", "-s", "--schedule", "-S", "--scheduler", "-n", "--hostname", *_DAEMON_TAKES}),
        note="any number may run",
    ),
    "status": Command("tasks status", _same("--json"), {"-t": _NOT_NEEDED, "--timeout": _NOT_NEEDED}, frozenset({"-t", "--timeout"})),
    "purge": Command(
        "tasks purge",
        _same("-f", "--force", "-Q", "--queues"),
        {"-X": "no counterpart: name the queues", "--exclude-queues": "no counterpart: name the queues"},
        frozenset({"-Q", "--queues", "-X", "--exclude-queues"}),
    ),
    "call": Command(
        "tasks call",
        _CALL,
        {"--serializer": "no counterpart", "--exchange": "no counterpart", "--routing-key": "no counterpart"},
        frozenset({*_CALL, "--serializer", "--exchange", "--routing-key"}),
    ),
    "result": Command("tasks result", _same("--traceback"), {"-t": _NOT_NEEDED, "--task": _NOT_NEEDED}, frozenset({"-t", "--task"})),
    "inspect": Command(note="`tasks inspect` comes with a later release; `manage.py tasks status` exits with 1 where no worker lives"),
    "control": Command(note="`tasks control` comes with a later release; `manage.py tasks queues pause` stops a queue, the admin revokes"),
    "events": Command("tasks events", _same("-d", "--dump"), _EVENTS_DROPPED, _EVENTS_TAKES),
    "report": Command(note="`tasks report` comes with a later release; `manage.py diffsettings` and `tasks status` tell most of it"),
    "flower": Command(note="Flower stays on Redis and RabbitMQ, without -A: it watches the events of `manage.py runworker -E`"),
    "multi": Command(note="no counterpart: one service for each worker, `manage.py runworker -n NAME@%h ...`"),
    "shell": Command("shell", note="tasks are imported from their modules"),
    "list": Command("tasks queues", note="bindings are the broker's own; this lists the queues"),
    "amqp": Command(note="no counterpart: rabbitmqadmin, or RabbitMQ's own pages"),
    "graph": Command(note="no counterpart: there are no bootsteps; the admin draws workflows"),
    "logtool": Command(note="no counterpart"),
    "migrate": Command(note="no counterpart: let the old workers empty the old broker"),
    "upgrade": Command(note="no counterpart: `manage.py check` says which settings have another name"),
}
POOLS: Final[Mapping[str, str]] = {"prefork": "prefork", "processes": "prefork", "solo": "solo", "threads": "threads"}
GREEN: Final = "threads, or asyncio for `async def` tasks, instead of the pool {}"
