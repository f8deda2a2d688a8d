"""Workers and tasks as their events describe them; ``State`` keeps them."""

from bisect import insort
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Final
from weakref import WeakSet

from django_tasks import clock, states

if TYPE_CHECKING:
    from django_tasks.events.clusterstate import State

#: Kinds of task events, and the state that each stands for. Others, a project's own, are states by their own name.
TASK_STATES: Final[Mapping[str, str]] = {
    "sent": states.PENDING,
    "received": states.RECEIVED,
    "started": states.STARTED,
    "failed": states.FAILURE,
    "retried": states.RETRY,
    "succeeded": states.SUCCESS,
    "revoked": states.REVOKED,
    "rejected": states.REJECTED,
}
#: What an event that comes too late still tells of its task.
_LATE_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    states.RECEIVED: frozenset({"name", "args", "kwargs", "parent_id", "root_id", "retries", "eta", "expires"}),
}
#: A worker is taken for dead after so many heartbeats that did not come.
_MISSED: Final = 2
_HEARTBEATS: Final = 4


class Worker:
    """A worker node, as its events describe it."""

    def __init__(self, hostname: str, **fields: Any) -> None:
        self.hostname = hostname
        self.pid: int | None = None
        self.freq: float = 60
        self.clock: int = 0
        self.active: int | None = None
        self.processed: int | None = None
        self.loadavg: Any = None
        self.sw_ident: str | None = None
        self.sw_ver: str | None = None
        self.sw_sys: str | None = None
        #: When its last events were received, oldest first (seconds since 1970).
        self.heartbeats: list[float] = []
        self.update(fields)

    def update(self, fields: Mapping[str, Any], **more: Any) -> None:
        """Note what an event says of it."""
        self.__dict__.update(fields, **more)

    def beat(self, moment: float) -> None:
        """Note a sign of life."""
        insort(self.heartbeats, moment)
        del self.heartbeats[:-_HEARTBEATS]

    @property
    def heartbeat_expires(self) -> float:
        """The time from which on it is taken for dead, unless it is heard of again."""
        return self.heartbeats[-1] + float(self.freq) * _MISSED

    @property
    def alive(self) -> bool:
        """Whether it has been heard of lately, and has not said goodbye since."""
        return bool(self.heartbeats) and clock.timestamp() < self.heartbeat_expires

    @property
    def status_string(self) -> str:
        """ONLINE or OFFLINE."""
        return "ONLINE" if self.alive else "OFFLINE"

    @property
    def id(self) -> str:
        """Name and process id."""
        return f"{self.hostname}.{self.pid}"

    def __eq__(self, other: object) -> bool:
        return self.hostname == other.hostname if isinstance(other, Worker) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.hostname)

    def __repr__(self) -> str:
        return f"<Worker: {self.hostname} ({self.status_string} clock:{self.clock})>"


class Task:
    """A task, as its events describe it. ``received``, ``started``, ``failed`` ... are the times of those events."""

    #: What ``info`` tells.
    INFO: ClassVar[tuple[str, ...]] = (
        *("args", "kwargs", "retries", "result", "eta", "runtime", "expires"),
        *("exception", "exchange", "routing_key", "root_id", "parent_id"),
    )
    #: What is None until an event tells it.
    FIELDS: ClassVar[tuple[str, ...]] = ("name", *TASK_STATES, *INFO, "traceback", "timestamp", "client", "queue", "hostname")

    def __init__(self, uuid: str, cluster_state: "State | None" = None, **fields: Any) -> None:
        self.uuid = uuid
        self.cluster_state = cluster_state
        self.state: str = states.PENDING
        self.clock: int = 0
        self.worker: Worker | None = None
        #: The node name of whoever sent it, if that tells.
        self.client: str | None = None
        #: Tasks that this one has sent.
        self.children: WeakSet[Task] = WeakSet()
        self.__dict__.update(fields)

    def __getattr__(self, name: str) -> Any:
        if name in self.FIELDS:
            return None
        raise AttributeError(f"no event told a {name!r} of the task {self.__dict__.get('uuid')}")

    def event(self, subject: str, fields: Mapping[str, Any]) -> None:
        """Note an event of it: ``subject`` is what follows ``task-`` in its type."""
        timestamp = fields.get("timestamp")
        if subject in TASK_STATES:
            setattr(self, subject, timestamp)
        state = TASK_STATES.get(subject, subject.upper())
        told = {name: value for name, value in fields.items() if name not in {"type", "uuid"}}
        # Of two events the one that comes first needn't be the one that happened first; only after a retry all begins anew.
        late = states.RETRY not in {state, self.state} and states.precedence(state) > states.precedence(self.state)
        if late:
            told.pop("timestamp", None)
            wanted = _LATE_FIELDS.get(state)
            told = told if wanted is None else {name: value for name, value in told.items() if name in wanted}
        else:
            told["state"] = state
        self.__dict__.update(told)

    def info(self, fields: Iterable[str] | None = None, extra: Iterable[str] | None = None) -> dict[str, Any]:
        """Return what is known, for showing: ``fields`` instead of the usual ones, ``extra`` beside them."""
        names = [*(self.INFO if fields is None else fields), *(extra or ())]
        return {name: value for name in names if (value := getattr(self, name, None)) is not None}

    def as_dict(self) -> dict[str, Any]:
        """Return all that is known; family as ids, the worker as its name."""
        known = {name: getattr(self, name) for name in dict.fromkeys(("uuid", "state", "clock", *self.FIELDS))}
        worker = self.worker.hostname if self.worker else None
        family = {"children": [child.uuid for child in self.children], "root": self.root_id, "parent": self.parent_id}
        return {**known, "worker": worker, **family}

    @property
    def id(self) -> str:
        """The task's id."""
        return self.uuid

    @property
    def ready(self) -> bool:
        """Whether it is done."""
        return self.state in states.READY_STATES

    @property
    def origin(self) -> str | None:
        """Who told of it: its worker, or the client that sent it."""
        return self.worker.id if self.worker else self.client

    @property
    def parent(self) -> "Task | None":
        """The task that sent this one, if it is known here."""
        return self._relative(self.parent_id)

    @property
    def root(self) -> "Task | None":
        """The first task of its workflow, if it is known here."""
        return self._relative(self.root_id)

    def _relative(self, task_id: str | None) -> "Task | None":
        return self.cluster_state.tasks.get(task_id) if self.cluster_state is not None and task_id else None

    def __eq__(self, other: object) -> bool:
        return self.uuid == other.uuid if isinstance(other, Task) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.uuid)

    def __repr__(self) -> str:
        return f"<Task: {self.name}({self.uuid}) {self.state} clock:{self.clock}>"
