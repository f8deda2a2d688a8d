"""What a task can do while it runs: its request, retries, replacement, states and progress."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from django_tasks import result_backends
from django_tasks.canvas import Signature
from django_tasks.canvas.dispatch import note_child
from django_tasks.conf import settings
from django_tasks.context import Request, current_request
from django_tasks.exceptions import MaxRetriesExceededError, Retry
from django_tasks.messages import TaskMessage
from django_tasks.result_backends.backend import ResultBackend
from django_tasks.tasks.replacing import add_to_chord, replacement, send_replacement, signature_of_request
from django_tasks.tasks.retries import give_up, next_message, raise_over_current
from django_tasks.tasks.statekeeping import store_progress, store_state

R = TypeVar("R")


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
        request = current_request()
        if request is not None and request.task is self:
            return request
        return Request(message=TaskMessage(id="", task=self.name), called_directly=True, task=self)

    @property
    def backend(self) -> ResultBackend:
        """The result backend."""
        return result_backends.current()

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: datetime | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Any,
    ) -> Retry:
        """Try the task again later: ``raise self.retry(exc=error, countdown=60)``. The same id, one retry more.

        Raises Retry, which ends this run; ``throw=False`` returns it, and the run goes on. When ``max_retries`` is used
        up raises ``exc``, or MaxRetriesExceededError without one.
        """
        request = self.request
        if request.called_directly:
            raise_over_current(exc or Retry("Task can be retried", None))
        limit = self.max_retries if max_retries is None else max_retries
        if eta is None and countdown is None:
            countdown = self.default_retry_delay
        message = next_message(request, self.run, args, kwargs, when=(countdown, eta), options=options)
        if limit is not None and message.retries > limit:
            give_up(exc or self._too_many(message))
        retry = Retry(exc=exc, when=eta or countdown, is_eager=request.is_eager, sig=signature_of_request(self, message))
        retry.task_message = message
        if throw:
            raise retry
        request.pending.append(message)
        return retry

    def _too_many(self, message: TaskMessage) -> BaseException:
        text = f"Can't retry {self.name}[{message.id}] args:{message.args} kwargs:{message.kwargs}"
        return self.MaxRetriesExceededError(text, task_args=message.args, task_kwargs=message.kwargs)

    def signature_from_request(
        self, request: Request | None = None, args: Any = None, kwargs: Any = None, queue: Any = None, **extra_options: Any
    ) -> Signature[R]:
        """Return a signature that calls this task as a request did, with other arguments and options if given."""
        message = (self.request if request is None else request).message
        if queue is not None:
            extra_options["queue"] = queue
        return signature_of_request(self, message, args, kwargs, extra_options)

    def replace(self, sig: Signature[Any]) -> Any:
        """Let another signature run instead, under this task's id and with all that follows it: ``return self.replace(sig)``.

        Raises Ignore, which ends this run; in eager mode returns the value.
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

        Does nothing when the function was called directly, without a task id.
        """
        store_state(self, self.request, task_id, state, meta)

    def progress(self, done: float, total: float | None = None, message: str = "") -> None:
        """Say how far the task has come: ``self.progress(30, 200, "reading orders")``.

        Stored as the state PROGRESS with ``{"done", "total", "message"}``, which ``AsyncResult.info``, the admin and
        ``manage.py tasks result --watch`` show. Cheap enough for every turn of a loop: of calls that follow each other within
        a quarter of a second only the first is stored, and the one that reaches ``total``. Raises ValueError for numbers that
        are no progress. Does nothing when the function was called directly.
        """
        store_progress(self, self.request, done, total, message)

    def send_event(self, type_: str, retry: bool = True, retry_policy: Any = None, **fields: Any) -> None:
        """Send a monitoring event of your own, where WORKER_SEND_TASK_EVENTS asks for events."""
        if settings.WORKER_SEND_TASK_EVENTS:
            raise NotImplementedError(f"event {type_!r} was not sent: events come in a later release; switch WORKER_SEND_TASK_EVENTS off")

    def add_trail(self, result: Any) -> Any:
        """Enter a result among the children of the task that runs here; returns the result."""
        note_child(result)
        return result
