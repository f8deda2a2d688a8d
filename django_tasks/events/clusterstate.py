"""``app.events.State``: what the events so far say of workers and tasks. Celery's names."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, TypeVar
from weakref import WeakSet

from django_tasks import clock
from django_tasks.events import seen
from django_tasks.events.channel import Event

R = TypeVar("R")
V = TypeVar("V")


class _Latest(OrderedDict[str, V]):
    """The entries that were put in last, ``limit`` at most."""

    def __init__(self, limit: int) -> None:
        super().__init__()
        self._limit = limit

    def __setitem__(self, key: str, value: V) -> None:
        super().__setitem__(key, value)
        while len(self) > self._limit:
            self.popitem(last=False)


class _Index(dict[str, "WeakSet[seen.Task]"]):
    """Tasks by some name: ``index[name]`` is the set of them; ``index(name)`` yields ids and tasks by time."""

    def __init__(self, tasks: Callable[[bool], Iterator[tuple[str, seen.Task]]]) -> None:
        super().__init__()
        self._tasks = tasks

    def __missing__(self, name: str) -> "WeakSet[seen.Task]":
        found = self[name] = WeakSet()
        return found

    def __call__(self, name: str, limit: int | None = None, reverse: bool = True) -> Iterator[tuple[str, seen.Task]]:
        wanted = self.get(name) or ()
        return islice(((uuid, task) for uuid, task in self._tasks(reverse) if task in wanted), limit)


class State:
    """Workers and tasks as their events describe them: feed it with ``event``. What was told of first is forgotten first.

    ``callback(state, event)`` is called before each event; ``on_node_join(worker)`` and ``on_node_leave(worker)`` when
    workers come and go. A worker that has gone stays known, as OFFLINE; with ``on_node_leave`` it is forgotten then.
    """

    Worker = seen.Worker
    Task = seen.Task

    def __init__(
        self,
        callback: Callable[["State", Event], Any] | None = None,
        *,
        max_workers_in_memory: int = 5000,
        max_tasks_in_memory: int = 10_000,
        on_node_join: Callable[[seen.Worker], Any] | None = None,
        on_node_leave: Callable[[seen.Worker], Any] | None = None,
    ) -> None:
        self.event_callback = callback
        self.on_node_join = on_node_join
        self.on_node_leave = on_node_leave
        #: How many events came, and how many tasks were received.
        self.event_count = 0
        self.task_count = 0
        self.workers: OrderedDict[str, seen.Worker] = _Latest(max_workers_in_memory)
        self.tasks: OrderedDict[str, seen.Task] = _Latest(max_tasks_in_memory)
        self.tasks_by_type = _Index(lambda reverse: self.tasks_by_time(reverse=reverse))
        self.tasks_by_worker = _Index(lambda reverse: self.tasks_by_time(reverse=reverse))
        self._types: set[str] = set()
        #: Children of tasks of which nothing has been heard yet.
        self._orphans: OrderedDict[str, WeakSet[seen.Task]] = _Latest(max_tasks_in_memory)
        self._lock = threading.RLock()

    def event(self, event: Event) -> tuple[Any, str]:
        """Take note of an event; returns (the worker or task, whether it is new) and what happened: ``failed``."""
        with self._lock:
            self.event_count += 1
            if self.event_callback is not None:
                self.event_callback(self, event)
            group, _, subject = str(event["type"]).partition("-")
            if group == "worker":
                return self._worker_event(subject, event), subject
            if group == "task" and "uuid" in event:
                return self._task_event(subject, event), subject
            return (None, False), subject

    def _worker_event(self, subject: str, event: Event) -> tuple[seen.Worker, bool]:
        hostname = event["hostname"]
        if subject == "offline" and hostname not in self.workers:
            return self.Worker(hostname), False
        worker, created = self.get_or_create_worker(hostname)
        worker.update({name: value for name, value in event.items() if name not in {"type", "timestamp", "local_received"}})
        if subject == "offline":
            worker.heartbeats.clear()
            if self.on_node_leave is not None:
                self.on_node_leave(worker)
                self.workers.pop(hostname, None)
            return worker, False
        worker.beat(_moment(event))
        if self.on_node_join is not None and (created or subject == "online"):
            self.on_node_join(worker)
        return worker, created

    def _task_event(self, subject: str, event: Event) -> tuple[seen.Task, bool]:
        hostname, (task, created) = event.get("hostname", ""), self.get_or_create_task(event["uuid"])
        if subject == "sent":
            task.client = hostname
        else:
            task.worker, _ = self.get_or_create_worker(hostname)
            task.worker.beat(_moment(event))
            self.tasks_by_worker[hostname].add(task)
            self.task_count += subject == "received"
        task.event(subject, event)
        if task.name is not None:
            self._types.add(task.name)
            self.tasks_by_type[task.name].add(task)
        self._relate(task)
        return task, created

    def _relate(self, task: seen.Task) -> None:
        if task.parent_id and (parent := self.tasks.get(task.parent_id)) is not None:
            parent.children.add(task)
        elif task.parent_id:
            children = self._orphans.get(task.parent_id)
            if children is None:
                children = self._orphans[task.parent_id] = WeakSet()
            children.add(task)
        task.children.update(self._orphans.pop(task.uuid, ()))

    def get_or_create_worker(self, hostname: str, **fields: Any) -> tuple[seen.Worker, bool]:
        """Return a worker, and whether it is new."""
        worker = self.workers.get(hostname)
        if worker is not None:
            worker.update(fields)
            return worker, False
        worker = self.workers[hostname] = self.Worker(hostname, **fields)
        return worker, True

    def get_or_create_task(self, uuid: str) -> tuple[seen.Task, bool]:
        """Return a task, and whether it is new."""
        task = self.tasks.get(uuid)
        if task is not None:
            return task, False
        task = self.tasks[uuid] = self.Task(uuid, cluster_state=self)
        return task, True

    # ---- asking

    def alive_workers(self) -> Iterator[seen.Worker]:
        """Yield the workers that seem to be alive."""
        return (worker for worker in list(self.workers.values()) if worker.alive)

    def task_types(self) -> list[str]:
        """Return the names of all tasks of which something was heard, sorted."""
        return sorted(self._types)

    def itertasks(self, limit: int | None = None) -> Iterator[tuple[str, seen.Task]]:
        """Yield ids and tasks, those first that were told of first."""
        return islice(list(self.tasks.items()), limit or None)

    def tasks_by_time(self, limit: int | None = None, reverse: bool = True) -> Iterator[tuple[str, seen.Task]]:
        """Yield ids and tasks by the time of their last event, the latest first."""
        with self._lock:
            ordered = sorted(self.tasks.items(), key=lambda item: (item[1].timestamp or 0, item[1].clock or 0), reverse=reverse)
        return islice(ordered, limit)

    tasks_by_timestamp = tasks_by_time

    # ---- forgetting

    def freeze_while(self, function: Callable[..., R], *args: Any, clear_after: bool = False, **kwargs: Any) -> R:
        """Call a function while no event is taken note of; with ``clear_after`` forget all but unfinished tasks then."""
        with self._lock:
            try:
                return function(*args, **kwargs)
            finally:
                if clear_after:
                    self.clear()

    def clear_tasks(self, ready: bool = True) -> None:
        """Forget the tasks that are done; with ``ready=False`` all."""
        with self._lock:
            for uuid in [uuid for uuid, task in self.tasks.items() if task.ready or not ready]:
                del self.tasks[uuid]

    def clear(self, ready: bool = True) -> None:
        """Forget the workers, the counts, and the tasks that are done; with ``ready=False`` all tasks."""
        with self._lock:
            self.workers.clear()
            self.clear_tasks(ready)
            self.event_count = self.task_count = 0

    def __repr__(self) -> str:
        return f"<State: events={self.event_count} tasks={self.task_count}>"


def _moment(event: Event) -> float:
    moment = event.get("local_received") or event.get("timestamp")
    return clock.timestamp() if moment is None else float(moment)
