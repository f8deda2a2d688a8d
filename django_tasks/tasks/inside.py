"""What a task can do while it runs: its request, retries, replacement, states and progress."""

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from django_tasks import result_backends
from django_tasks.canvas import Signature
from django_tasks.canvas.dispatch import note_child, send
from django_tasks.canvas.optionvalues import refuse_values
from django_tasks.context import Request, current_request
from django_tasks.exceptions import MaxRetriesExceededError, Retry
from django_tasks.messages import TaskMessage, shown_arguments
from django_tasks.result_backends.backend import ResultBackend
from django_tasks.tasks.eventsending import send_event, tries_of
from django_tasks.tasks.replacing import add_to_chord, replacement, send_replacement, signature_of_request
from django_tasks.tasks.retries import fit_max_retries, give_up, next_message, raise_over_current, retried_error
from django_tasks.tasks.statekeeping import refuse_state, store_progress, store_state

R = TypeVar("R")

#: Requests that tests have put in the place of a run's.
_pushed: ContextVar[tuple[Request, ...]] = ContextVar("django_tasks_pushed_requests", default=())


class InsideRun(Generic[R]):
    """The part of ``Task`` that its own function uses, as ``self`` (``bind=True``) or by ``current_task``."""

    MaxRetriesExceededError: ClassVar[type[MaxRetriesExceededError]] = MaxRetriesExceededError

    #: Name by which messages call the task; ``module.function`` unless given.
    name: str = ""
    #: Retries before giving up; None never gives up.
    max_retries: int | None = 3
    #: Seconds before a retry that names no time.
    default_retry_delay: float = 180

    if TYPE_CHECKING:
        #: The function that does the work.
        run: Callable[..., Any]

    @property
    def request(self) -> Request:
        """The run that goes on here; outside of one an empty request with ``called_directly``."""
        pushed = _pushed.get()
        if pushed:
            for request in reversed(pushed):
                if request.definition is self:
                    return request
        running = current_request()
        if running is not None and running.definition is self:
            return running
        return Request(message=TaskMessage(id="", task=self.name), called_directly=True, definition=self)

    def push_request(self, *values: Any, **more: Any) -> None:
        """Make a request of these fields the task's, until ``pop_request()``: for tests of what a bound function does.

        ``add.push_request(id="1", retries=2)`` takes what ``request.update`` takes. Only this task sees it.
        """
        request = Request(message=TaskMessage(id="", task=self.name), called_directly=True, definition=self)
        request.update(*values, **more)
        _pushed.set((*_pushed.get(), request))

    def pop_request(self) -> None:
        """Take the last pushed request away; IndexError if there is none."""
        pushed = _pushed.get()
        own = [position for position, request in enumerate(pushed) if request.definition is self]
        if not own:
            raise IndexError(f"{self.name}: no request was pushed")
        _pushed.set((*pushed[: own[-1]], *pushed[own[-1] + 1 :]))

    @property
    def backend(self) -> ResultBackend:
        """The result backend."""
        return result_backends.current()

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | type[BaseException] | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Try the task again later: ``raise self.retry(exc=error, countdown=60)``. The same id, one retry more.

        Raises Retry, which ends this run; ``throw=False`` returns it, and the run goes on. When ``max_retries`` is used
        up raises ``exc``, or MaxRetriesExceededError without one.

        ``options`` are those of ``apply_async``, as ``queue``, ``priority`` or ``headers``. It remains the same task of the same
        workflow: ``task_id``, ``root_id``, ``parent_id``, ``group_id`` and ``group_index`` have no effect.
        """
        request = self.request
        exc = retried_error(self.name, exc)
        if request.called_directly:
            raise_over_current(exc or Retry("Task can be retried", None))
        limit = self.max_retries if max_retries is None else fit_max_retries(self.name, max_retries)
        if eta is None and countdown is None:
            countdown = self.default_retry_delay
        message = next_message(request, self.run, args, kwargs, when=(countdown, eta), options=options)
        if limit is not None and message.retries > limit:
            give_up(exc or self._too_many(message))
        retry = Retry(exc=exc, when=eta or countdown, is_eager=request.is_eager, sig=signature_of_request(self, message))
        retry.task_message = message
        if request is not current_request():
            # A pushed request has no run that sends it.
            send(message)
        elif not throw:
            request.pending.append(message)
        if throw:
            raise retry
        return retry

    def _too_many(self, message: TaskMessage) -> BaseException:
        args, kwargs = shown_arguments(message)
        text = f"Can't retry {self.name}[{message.id}] args:{args} kwargs:{kwargs}"
        return self.MaxRetriesExceededError(text, task_args=message.args, task_kwargs=message.kwargs)

    def signature_from_request(
        self, request: Request | None = None, args: Any = None, kwargs: Any = None, queue: Any = None, **extra_options: Any
    ) -> Signature[R]:
        """Return a signature that calls this task as a request did, with other arguments and options if given."""
        message = (self.request if request is None else request).message
        if queue is not None:
            extra_options["queue"] = queue
        return signature_of_request(self, message, args, kwargs, extra_options)

    subtask_from_request = signature_from_request

    def replace(self, sig: Signature[Any]) -> Any:
        """Let another signature run instead, under this task's id and with all that follows it: ``return self.replace(sig)``.

        Raises Ignore, which ends this run: ``raise self.replace(sig)`` is the same. In eager mode the value is that of the signature.
        """
        return self.on_replace(replacement(self.request, sig))

    def on_replace(self, sig: Signature[Any]) -> Any:
        """Send what replaces this task. An override must return ``super().on_replace(sig)``."""
        return send_replacement(self.request, sig)

    def add_to_chord(self, sig: Signature[Any], lazy: bool = False) -> Any:
        """Add a task to the header of the chord that this one is a part of. ``lazy`` leaves it to you to send it."""
        return add_to_chord(self.request, sig, lazy=lazy)

    def update_state(self, task_id: str | None = None, state: str | None = None, meta: Any = None, **kwargs: Any) -> None:
        """Store a state of your own with details, at once: ``self.update_state(state="PROGRESS", meta={"done": 3})``.

        Does nothing when the function was called directly, without a task id. ``traceback=`` is stored beside the details. Raises
        TypeError for what is no state.
        """
        refuse_state(self.name, task_id, state, kwargs)
        store_state(self, self.request, task_id, state, meta, kwargs.get("traceback"))

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far the task has come: ``self.progress(30, 200, "reading orders")``.

        Stored as the state PROGRESS with ``{"done", "total", "message"}``, which ``AsyncResult.info``, the admin and
        ``manage.py tasks result --watch`` show. Cheap enough for every turn of a loop: of calls that follow each other within
        a quarter of a second only the first is stored, and the one that reaches ``total``. Raises ValueError for numbers that
        are no progress. Does nothing when the function was called directly.
        """
        store_progress(self, self.request, done, total, message)

    def send_event(self, type_: str, retry: bool = True, retry_policy: Any = None, **fields: Any) -> None:
        """Send a monitoring event of your own: ``self.send_event("task-halfway", rows=500)``. Whoever listens hears it at once.

        It carries the id of the run and the name of the worker; ``fields`` are what JSON takes. It needs no ``-E``, and is sent
        whatever the task's ``send_events`` says. ``retry`` tries again as ``retry_policy``, or TASK_PUBLISH_RETRY_POLICY, has it.
        Raises OperationalError when the broker can't be reached within that, and EncodeError for values that JSON doesn't take.
        """
        refuse_values(self.name, {"retry_policy": retry_policy})
        send_event(self.request, type_, fields, tries_of(retry, retry_policy))

    def add_trail(self, result: Any) -> Any:
        """Enter a result among the children of the task that runs here; returns the result."""
        note_child(result)
        return result
