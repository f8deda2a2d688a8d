"""The tasks of the workflows, declared for whichever engine is given: ours or Celery's."""

import datetime as dt
import decimal
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

#: Where the tasks' names say that they are.
HOME = "tests.sampleapp.workflows"


def note(line: str) -> None:
    """Write a line into the file that EFFECTS names: one write, so that a kill can't halve it."""
    log = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(log, f"{line}\n".encode())
    finally:
        os.close(log)


def noted() -> list[str]:
    """Return the lines written so far."""
    try:
        return Path(os.environ["EFFECTS"]).read_text().splitlines()
    except FileNotFoundError:
        return []


def engine_of(package: Any, exceptions: Any, visitor: Any, **own: Any) -> SimpleNamespace:
    """Gather the names that the tables use from an engine that has Celery's; ``own`` are those that belong to its app."""
    names = {name: getattr(package, name) for name in ("chain", "group", "chord", "signature", "maybe_signature")}
    names |= {name: getattr(exceptions, name) for name in ("Ignore", "Reject", "IncompleteStream", "TimeoutError")}
    return SimpleNamespace(**names, StampingVisitor=visitor, sleep=time.sleep, **own)


def declare(engine: SimpleNamespace) -> SimpleNamespace:
    """Declare all tasks; the engine has ``shared_task``, ``Task``, ``group``, ``chord`` and the like."""
    declared: dict[str, Any] = {}

    def task(**options: Any) -> Callable[[Callable[..., Any]], Any]:
        def register(function: Callable[..., Any]) -> Any:
            name = function.__name__
            declared[name] = engine.shared_task(name=f"{HOME}.{name}", **options)(function)
            return declared[name]

        return register

    _plain(task)
    _failing(task, engine)
    _retrying(task, engine)
    _replacing(task, engine, declared)
    _sending(task, engine, declared)
    _stateful(task, engine, declared)
    return SimpleNamespace(**vars(engine), **declared)


def _plain(task: Any) -> None:
    @task()
    def add(x, y):
        return x + y

    @task()
    def double(x):
        return 2 * x

    @task()
    def total(values):
        return sum(sum(value) if isinstance(value, list) else value for value in values)

    @task()
    def same(value=None):
        return value

    @task()
    def give(*args, **kwargs):
        return [list(args), kwargs]

    @task()
    def leave(key, value=None):
        note(key)
        return value

    @task()
    def leave_result(value, key):
        note(f"{key} {value}")
        return value

    @task()
    def rich(which):
        return {
            "datetime": dt.datetime(2026, 2, 28, 12, 30, 1, 123456, tzinfo=dt.UTC),
            "date": dt.date(2026, 2, 28),
            "time": dt.time(12, 30, 1),
            "decimal": decimal.Decimal("12.50"),
            "uuid": uuid.UUID("12345678123456781234567812345678"),
            "bytes": b"\x00\xff\x10",
        }[which]

    @task()
    def kind(value):
        return type(value).__name__

    @task()
    def kinds(values):
        return [type(value).__name__ for value in values]

    @task(bind=True)
    def marks(self, *args, names=("mark",)):
        stamps = self.request.stamps or {}
        return {name: stamps.get(name) for name in names}

    @task(bind=True)
    def family(self, *args):
        return [self.request.root_id, self.request.parent_id, self.request.id, self.request.group]


def _failing(task: Any, engine: SimpleNamespace) -> None:
    @task()
    def fail(*args, text="bad"):
        raise ValueError(text)

    @task(throws=(KeyError,))
    def expected_failure():
        raise KeyError("expected")

    @task()
    def heard(request, exc, traceback, key="heard"):
        note(f"{key} {request.id} {type(exc).__name__}")

    @task()
    def heard_id(task_id, key="heard"):
        note(f"{key} {task_id}")

    @task(bind=True)
    def ignore(self, state=None):
        if state:
            self.update_state(state=state, meta={"why": "not today"})
        raise engine.Ignore

    @task(acks_late=True)
    def reject_once(key):
        first = key not in noted()
        note(key)
        if first:
            raise engine.Reject("not yet", requeue=True)
        return "at last"

    @task(acks_late=True)
    def reject(key):
        note(key)
        raise engine.Reject("never", requeue=False)

    class Life(engine.Task):
        def before_start(self, task_id, args, kwargs):
            note(f"{task_id} before_start")

        def on_success(self, retval, task_id, args, kwargs):
            note(f"{task_id} on_success {retval}")

        def on_failure(self, exc, task_id, args, kwargs, einfo):
            note(f"{task_id} on_failure {exc}")

        def on_retry(self, exc, task_id, args, kwargs, einfo):
            note(f"{task_id} on_retry {exc!r}")

        def after_return(self, status, retval, task_id, args, kwargs, einfo):
            note(f"{task_id} after_return {status}")

    @task(base=Life, bind=True, max_retries=1)
    def life(self, how):
        if how == "retry" and not self.request.retries:
            raise self.retry(exc=OSError("again"), countdown=0.3)
        if how == "failure":
            raise ValueError("bad")
        return how


def _retrying(task: Any, engine: SimpleNamespace) -> None:
    @task(bind=True, default_retry_delay=0)
    def retry(self, x=0, y=0, *, how="plain", until=2):
        tries = self.request.retries
        if tries >= until:
            return [x, y, tries]
        soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=0.05)
        options = {
            "plain": {},
            "args": {"args": (x + 1,)},
            "kwargs": {"kwargs": {"y": y + 1, "how": how, "until": until}},
            "countdown": {"countdown": 0.05},
            "eta": {"eta": soon},
            "for ever": {"max_retries": None},
        }[how]
        raise self.retry(**options)

    @task(bind=True, max_retries=1, default_retry_delay=0)
    def give_up(self, exc=None):
        raise self.retry(exc=ValueError(exc) if exc else None)

    @task(bind=True, max_retries=None, default_retry_delay=0)
    def persist(self, times):
        if self.request.retries < times:
            raise self.retry()
        return self.request.retries

    @task(bind=True, max_retries=5, default_retry_delay=0)
    def retry_quietly(self, key):
        if self.request.retries == 0:
            self.retry(throw=False, countdown=0)
            note(f"{key} went on")
            raise engine.Ignore
        return "second"

    @task(bind=True, autoretry_for=(OSError,), retry_backoff=0.01, retry_backoff_max=1, retry_jitter=False, max_retries=2)
    def backoff(self, succeed_at):
        if self.request.retries < succeed_at:
            raise OSError(f"try {self.request.retries}")
        return self.request.retries

    @task(autoretry_for=(Exception,), dont_autoretry_for=(KeyError,), retry_kwargs={"max_retries": 1, "countdown": 0})
    def choosy(error):
        raise {"key": KeyError, "value": ValueError}[error]("no")


def _sending(task: Any, engine: SimpleNamespace, declared: dict[str, Any]) -> None:
    @task(bind=True)
    def send_a_chord(self, then=0):
        body = [declared["family"].s() for _ in range(1 + then)]
        header = [declared["family"].s(), declared["family"].s()]
        sent = engine.chord(header, engine.chain(*body) if then else body[0]).apply_async()
        return [self.request.id, sent.id]


def _replacing(task: Any, engine: SimpleNamespace, declared: dict[str, Any]) -> None:
    def shape(kind: str, number: int) -> Any:
        add, double, total = declared["add"], declared["double"], declared["total"]
        return {
            "task": lambda: add.s(number, 1),
            "chain": lambda: add.s(number, 1) | double.s() | add.s(1),
            "group": lambda: engine.group(add.s(number, 1), add.s(number, 2)),
            "chord": lambda: engine.chord([add.s(number, 1), add.s(number, 2)], total.s()),
            "chain to group": lambda: add.s(number, 1) | engine.group(add.s(1), add.s(2)),
            "replaced again": lambda: declared["replace"].s(number, "chain"),
            "failure": declared["fail"].si,
            "nothing": engine.chain,
        }[kind]()

    @task(bind=True)
    def replace(self, number, kind):
        return self.replace(shape(kind, number))

    @task(bind=True)
    def send(self, kind, number):
        sent = shape(kind, number).apply_async()
        return sent.id

    @task(bind=True)
    def grow(self, number):
        self.add_to_chord(declared["same"].si(10 * number))
        return number

    @task(bind=True)
    def wait_for(self, number, how):
        sent = declared["add"].s(number, 1).apply_async()
        if how == "plainly":
            return sent.get(timeout=20)
        if how == "allowed":
            return sent.get(timeout=20, disable_sync_subtasks=False)
        with engine.allow_join_result():
            return sent.get(timeout=20)


def _stateful(task: Any, engine: SimpleNamespace, declared: dict[str, Any]) -> None:
    @task(bind=True)
    def report(self, key):
        self.update_state(state="COUNTING", meta={"done": 3, "of": 4})
        note(f"{key} reported")
        while f"{key} go on" not in noted():
            engine.sleep(0.01)
        return "counted"

    @task(bind=True)
    def tell_other(self, task_id):
        self.update_state(task_id=task_id, state="TOLD", meta=[1])

    @task(bind=True)
    def about(self):
        return [self.request.task.rpartition(".")[2], self.request.time_limit, self.request.soft_time_limit]

    @task(bind=True)
    def stop(self, key):
        self.request.chain = None
        return key

    class Careless(engine.Task):
        def on_success(self, retval, task_id, args, kwargs):
            raise LookupError("the handler's own")

    @task(base=Careless)
    def handled_carelessly():
        return "done"

    @task(ignore_result=True)
    def forgettable(key):
        note(key)
        return 1
