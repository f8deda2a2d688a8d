"""A task's options: what a decorator takes, and attributes that follow the settings until a task has its own."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final, Generic, TypedDict, TypeVar, overload

from django_tasks.canvas.calls import Expires
from django_tasks.canvas.parameters import own_signature
from django_tasks.conf import settings

V = TypeVar("V")


class TaskOptions(TypedDict, total=False):
    """What ``@shared_task`` and ``@app.task`` take beside ``bind``."""

    name: str | None
    base: Any
    typing: bool
    ignore_result: bool | None
    max_retries: int | None
    default_retry_delay: float
    autoretry_for: Sequence[type[BaseException]]
    dont_autoretry_for: Sequence[type[BaseException]]
    retry_kwargs: Mapping[str, Any]
    retry_backoff: bool | float
    retry_backoff_max: int
    retry_jitter: bool
    rate_limit: str | float | None
    time_limit: float | None
    soft_time_limit: float | None
    serializer: str | None
    compression: str | None
    priority: int | None
    queue: Any
    routing_key: str | None
    exchange: Any
    expires: Expires
    acks_late: bool | None
    acks_on_failure_or_timeout: bool | None
    acks_on_failure: bool | None
    acks_on_timeout: bool | None
    reject_on_worker_lost: bool | None
    track_started: bool | None
    store_errors_even_if_ignored: bool | None
    store_eager_result: bool | None
    throws: Sequence[type[BaseException]]
    trail: bool
    send_events: bool
    resultrepr_maxsize: int
    shadow_name: Callable[..., str | None]
    before_start: Callable[..., None]
    on_success: Callable[..., None]
    on_failure: Callable[..., None]
    on_retry: Callable[..., None]
    after_return: Callable[..., None]
    pydantic: bool
    pydantic_strict: bool
    pydantic_context: Mapping[str, Any] | None
    pydantic_dump_kwargs: Mapping[str, Any] | None
    # Accepted from Celery, where they say which of several apps gets the task, and when.
    shared: bool
    lazy: bool
    app: Any


class FromSettings(Generic[V]):
    """An attribute that reads a setting at every access, until the class or the instance has a value of its own."""

    def __init__(self, setting: str) -> None:
        self.setting = setting

    @overload
    def __get__(self, task: None, owner: type[Any]) -> V: ...
    @overload
    def __get__(self, task: object, owner: type[Any]) -> V: ...
    def __get__(self, task: object | None, owner: type[Any]) -> V:
        value: V = getattr(settings, self.setting)
        return value

    if TYPE_CHECKING:  # tasks may set the attribute; at run time that is the instance's own dictionary

        def __set__(self, task: object, value: V) -> None: ...


class Follows:
    """An attribute that has the value of another one, until the class or the instance has a value of its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, task: object | None, owner: type[Any]) -> bool:
        return bool(getattr(owner if task is None else task, self.name))

    if TYPE_CHECKING:

        def __set__(self, task: object, value: bool) -> None: ...


#: Options that are no attributes of the task's class.
NOT_ATTRIBUTES: Final = frozenset(
    {"base", "bind", "app", "shared", "lazy", "pydantic", "pydantic_strict", "pydantic_context", "pydantic_dump_kwargs"}
)

OPTION_NAMES: Final = frozenset(TaskOptions.__annotations__) | {"bind"}

#: A task's own values of these are options of every call.
CALL_DEFAULTS: Final = (
    "queue",
    "exchange",
    "routing_key",
    "priority",
    "expires",
    "serializer",
    "compression",
    "time_limit",
    "soft_time_limit",
)


def refuse_misspelt(name: str, options: Mapping[str, Any], base: type[Any]) -> None:
    """Raise TypeError for an option that looks like a known one written wrongly; others become attributes, as in Celery."""
    for option in options:
        if option in OPTION_NAMES or hasattr(base, option):
            continue
        near = get_close_matches(option, OPTION_NAMES, n=1, cutoff=0.8)
        if near:
            raise TypeError(f"task {name}: there is no option {option!r}; did you mean {near[0]!r}? The task was not registered")
    if options.get("backend") is not None:
        raise TypeError(f"task {name}: all tasks of a project share RESULT_BACKEND, so there is no option 'backend'; it was not registered")


def argument_check(function: Callable[..., Any], name: str) -> Callable[..., None] | None:
    """Return a function of the same parameters that does nothing: calling it is the quickest check of arguments.

    None for functions whose parameters can't be read. A wrong call raises TypeError that names the task.
    """
    try:
        parameters = own_signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    written, kinds = [], [parameter.kind for parameter in parameters]
    for position, parameter in enumerate(parameters):
        text = parameter.name if parameter.default is parameter.empty else f"{parameter.name}=None"
        if parameter.kind is parameter.VAR_POSITIONAL:
            text = f"*{text}"
        elif parameter.kind is parameter.VAR_KEYWORD:
            text = f"**{text}"
        elif parameter.kind is parameter.KEYWORD_ONLY and not {parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL} & set(kinds[:position]):
            written.append("*")
        written.append(text)
        if parameter.kind is parameter.POSITIONAL_ONLY and parameter.POSITIONAL_ONLY not in kinds[position + 1 :]:
            written.append("/")
    # Only identifiers of an existing signature get into the text; binding with inspect takes twenty times as long.
    check: Callable[..., None] = eval(f"lambda {', '.join(written)}: None", {})  # noqa: S307
    # Python's own message for wrong arguments starts with this name.
    check.__qualname__ = name
    return check
