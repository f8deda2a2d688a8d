"""``Signature``: a call that has not been made yet. A dictionary, as it lies in a message, with methods."""

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from copy import deepcopy
from typing import Any, ClassVar, TypeAlias, TypeVar, cast

from django_tasks.canvas.asynccalls import AsyncCalls
from django_tasks.canvas.calls import listed, warn_of_sending
from django_tasks.canvas.dispatch import send_call
from django_tasks.canvas.optionvalues import call_args, call_kwargs, fit_link
from django_tasks.canvas.texts import call_text
from django_tasks.canvas.unmade import Unmade
from django_tasks.canvas.wire import WireForm, copy_options, merge_options, merge_stamps, only_stamps
from django_tasks.exceptions import NotRegistered
from django_tasks.messages import new_id
from django_tasks.registry import registry
from django_tasks.result import AsyncResult

R = TypeVar("R")
Kind: TypeAlias = "type[Signature[Any]]"
S = TypeVar("S", bound=Kind)


class Signature(WireForm, AsyncCalls[R]):
    """A task with some or all of its arguments, and the options to call it with.

    Made by ``task.s(...)``, ``task.si(...)`` or ``signature(name, args, kwargs)``; combined with ``|``, ``group`` and
    ``chord``; sent by ``delay`` and ``apply_async``. Arguments given then go before the stored ones, unless the
    signature is immutable. It equals its wire form, a dictionary with ``task``, ``args``, ``kwargs``, ``options``,
    ``subtask_type`` and ``immutable``.
    """

    #: Kind of signature (``subtask_type``) to its class; each canvas primitive enters itself.
    TYPES: ClassVar[dict[str, Kind]] = {}
    #: The project's app, ``django_tasks.app``.
    app: ClassVar[Any] = None
    #: The task object, where the signature was made from one.
    known_task: Any = None

    @classmethod
    def register_type(cls, name: str | None = None) -> Callable[[S], S]:
        """Decorate a subclass of your own so that messages can carry it, by the name of the class or another."""

        def register(subclass: S) -> S:
            cls.TYPES[name or subclass.__name__] = subclass
            return subclass

        return register

    @classmethod
    def from_dict(cls, d: Mapping[str, Any], app: Any = None) -> "Signature[Any]":
        """Make a signature of the right class from its wire form."""
        kind = d.get("subtask_type")
        if kind:
            known = cls.TYPES.get(kind)
            if known is None:
                raise ValueError(f"unknown kind of signature {kind!r}; known are {', '.join(sorted(cls.TYPES))}")
            if known is not cls:
                return known.from_dict(d, app=app)
        return Signature(d, app=app)

    def __init__(
        self,
        task: Any = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        type: Any = None,
        subtask_type: str | None = None,
        immutable: bool = False,
        app: Any = None,
        **ex: Any,
    ) -> None:
        if isinstance(task, Mapping):
            if not isinstance(task.get("task"), str):
                raise TypeError(
                    f"a signature in the form of a dictionary needs the name of its task under 'task'; this has none: {task!r:.100}"
                )
            # Messages may carry only what is needed; and what the caller's dictionary holds stays the caller's.
            super().__init__(
                task=task["task"],
                args=call_args(task["task"], task.get("args")),
                kwargs=call_kwargs(task["task"], task.get("kwargs")),
                options=dict(task.get("options") or {}),
                subtask_type=task.get("subtask_type"),
                immutable=bool(task.get("immutable", False)),
            )
            return
        if not isinstance(task, str):
            self.known_task = type or task
            task = getattr(task, "name", None)
        if not isinstance(task, str) or not task:
            raise TypeError(f"a signature is of a task or a task's name, not {task if self.known_task is None else self.known_task!r}")
        super().__init__(
            task=task,
            args=args if isinstance(args, tuple) else call_args(task, args),
            kwargs=dict(kwargs) if isinstance(kwargs, dict) else call_kwargs(task, kwargs),
            options={**(options or {}), **ex},
            subtask_type=subtask_type,
            immutable=immutable,
        )

    @property
    def type(self) -> Any:
        """The task object; NotRegistered where this process doesn't know the task."""
        task = self.find_task()
        if task is None:
            raise NotRegistered(self["task"])
        return task

    def find_task(self) -> Any:
        """Return the task object, or None where this process doesn't know the task."""
        return self.known_task if self.known_task is not None else registry.find(self["task"])

    # ---- calling it

    def __call__(self, *partial_args: Any, **partial_kwargs: Any) -> Any:
        """Call the task's function here and now."""
        args, kwargs, _ = self.merged(partial_args, partial_kwargs)
        return self.type(*args, **kwargs)

    def delay(self, *partial_args: Any, **partial_kwargs: Any) -> AsyncResult[R]:
        """Send the task with these arguments before the stored ones."""
        return cast("AsyncResult[R]", self.apply_async(partial_args, partial_kwargs))

    def apply_async(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, route_name: str | None = None, **options: Any
    ) -> Any:
        """Send the task: arguments go before the stored ones, options over them. Returns its AsyncResult."""
        given = {name: value for name, value in options.items() if value is not None}
        args, kwargs, given = self.merged(args, kwargs, given)
        task = self.find_task()
        if task is None:
            warn_of_sending("a signature of a task that this process doesn't know")
            return send_call(self["task"], args, kwargs, given)
        return task.apply_async(args, kwargs, **given)

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run the task here and now; what comes back is an EagerResult."""
        given = {name: value for name, value in options.items() if value is not None}
        args, kwargs, given = self.merged(args, kwargs, given)
        return self.type.apply(args, kwargs, **given)

    def __invert__(self) -> Any:
        """``~signature``: send it and wait for its result."""
        return self.apply_async().get()

    # ---- changing it

    def merged(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        *,
        force: bool = False,
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """Return args, kwargs and options of a call with these ones added; ``force`` disregards immutability."""
        merged = merge_options(self.options, options) if options else self.options
        if self.immutable and not force:
            return self.args, self.kwargs, merged
        return (
            (*args, *self.args) if args else self.args,
            {**self.kwargs, **kwargs} if kwargs else self.kwargs,
            merged,
        )

    def clone(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> "Signature[R]":
        """Return a copy, with more arguments and options if given."""
        if type(self) is Signature and not (args or kwargs or options):
            # Workflows copy every call they hold: the plain case goes without the general one's detours.
            plain: Signature[R] = Signature.__new__(Signature)
            dict.update(plain, self)
            dict.update(plain, kwargs=dict(self["kwargs"]), options=copy_options(self["options"]))
            plain.known_task = self.known_task
            return plain
        new_args, new_kwargs, new_options = self.merged(args, kwargs, options)
        copy = Signature.from_dict(
            {
                "task": self["task"],
                "args": new_args,
                "kwargs": dict(new_kwargs),
                "options": copy_options(new_options),
                "subtask_type": self["subtask_type"],
                "immutable": self["immutable"],
            }
        )
        copy.known_task = self.known_task
        return copy

    partial = clone

    def replace(
        self,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        options: dict[str, Any] | None = None,
    ) -> "Signature[R]":
        """Return a copy with other arguments or options; None keeps them."""
        copy = self.clone()
        if args is not None:
            copy.args = tuple(args)
        if kwargs is not None:
            copy.kwargs = kwargs
        if options is not None:
            copy.options = options
        return copy

    def set(self, immutable: bool | None = None, **options: Any) -> "Signature[R]":
        """Set calling options, as ``sig.set(queue="slow", countdown=10)``; returns the signature itself."""
        if immutable is not None:
            self.set_immutable(immutable)
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Say whether the signature takes further arguments."""
        self.immutable = immutable

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> Any:
        """Give the call its id now, and return the AsyncResult that it will have. Send it at most once after that."""
        options = self.options
        task_id = options.get("task_id")
        if task_id is None:
            task_id = options["task_id"] = _id or new_id()
        if root_id:
            options["root_id"] = root_id
        if parent_id:
            options["parent_id"] = parent_id
        if group_id:
            options.setdefault("group_id", group_id)
        if chord is not None:
            options["chord"] = chord
        if group_index is not None:
            options["group_index"] = group_index
        return self.AsyncResult(task_id)

    _freeze = freeze

    def AsyncResult(self, task_id: str) -> Any:  # noqa: N802  Celery's name
        """Return the AsyncResult of a call with this id."""
        task = self.find_task()
        return AsyncResult(task_id) if task is None else task.AsyncResult(task_id)

    # ---- links

    def append_to_list_option(self, key: str, value: Any) -> Any:
        """Add a value to an option that is a list, unless it is in there."""
        items = self._list_option(key)
        if value not in items:
            items.append(value)
        return value

    def extend_list_option(self, key: str, value: Any) -> None:
        """Add values to an option that is a list."""
        self._list_option(key).extend(listed(value))

    def _list_option(self, key: str) -> MutableSequence[Any]:
        items = self.options.get(key)
        if not isinstance(items, MutableSequence):
            items = self.options[key] = listed(items)
        return items

    def link(self, callback: Any) -> Any:
        """Call ``callback`` with the result when the task succeeds. Returns the callback."""
        return self.append_to_list_option("link", fit_link(callback))

    def link_error(self, errback: Any) -> Any:
        """Call ``errback`` when the task fails for good. Returns the errback.

        One that takes ``(request, exc, traceback)`` is called in the failed task's process; one that takes a single
        argument is sent as a task, with the id of the failed task.
        """
        return self.append_to_list_option("link_error", fit_link(errback))

    def on_error(self, errback: Any) -> "Signature[R]":
        """``link_error`` that returns the signature itself, for chaining."""
        self.link_error(errback)
        return self

    def flatten_links(self) -> list[Any]:
        """Return the signature and all its callbacks, and theirs."""
        return [self, *(inner for link in listed(self.options.get("link")) for inner in link.flatten_links())]

    # ---- combining

    def __or__(self, other: Any) -> Any:
        """``a | b``: run b with a's result."""
        if not isinstance(other, Signature):
            return NotImplemented
        chain: Any = self.TYPES["chain"]
        return chain.of([self, *other.chained()])

    def __ior__(self, other: Any) -> Any:
        return self.__or__(other)

    def chained(self) -> "list[Signature[Any]]":
        """Return what this signature puts into a chain: itself, or a chain's steps, or a small group's only member."""
        return [self]

    def as_part(self) -> "Signature[Any]":
        """Return what stands for this signature in a workflow: itself, or of chunks the group that they are."""
        return self

    def parts(self) -> int:
        """Return how many results this signature contributes to a chord."""
        return 1

    # ---- stamps

    def stamp(self, visitor: Any = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Mark the call and its links with headers that travel with them; a visitor may choose them for each."""
        self.stamp_links(visitor, append_stamps, **headers)
        visited = None if visitor is None else visitor.on_signature(self, **headers) or {}
        return self.set(**only_stamps(self._stamps(visited, append_stamps, **headers)))

    def stamp_links(self, visitor: Any, append_stamps: bool = False, **headers: Any) -> None:
        """Stamp the callbacks and error callbacks only."""
        for option, method in (("link", "on_callback"), ("link_error", "on_errback")):
            stamps = deepcopy(headers)
            links = [maybe_signature(link, clone=True) for link in listed(self.options.get(option))]  # others may have them, too
            for link in links:
                visited = None if visitor is None else getattr(visitor, method)(link, **stamps) or {}
                link.stamp(visitor, append_stamps, **merge_stamps(stamps, visited, append=append_stamps))
            if links:
                self.options[option] = links

    def _stamps(self, visited: dict[str, Any] | None, append_stamps: bool, **headers: Any) -> dict[str, Any]:
        stamps = merge_stamps(headers, visited, append=append_stamps)
        names = set(stamps["stamped_headers"]) | set(self.options.get("stamped_headers") or ())
        own = {name: value for name, value in self.options.items() if name in names}
        stamps = merge_stamps(own, stamps, append=append_stamps)
        stamps["stamped_headers"] = sorted(names)
        return stamps

    # ---- as a dictionary and as text

    def __copy__(self) -> "Signature[R]":
        return self.clone()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Signature[R]":
        return self.clone()

    def __reduce__(self) -> Any:
        return signature, (dict(self),)

    def __json__(self) -> dict[str, Any]:
        return dict(self)

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """Show the call as text, with more arguments if given."""
        return call_text(self["task"], *self.merged(args, kwargs, force=True)[:2])

    def __repr__(self) -> str:
        return self.reprcall()


def signature(varies: Any, *args: Any, **kwargs: Any) -> Signature[Any]:
    """Make a signature of a task, a task's name, or a wire form; a signature is copied."""
    if isinstance(varies, Signature):
        return varies.clone()
    if isinstance(varies, Mapping):
        return Signature.from_dict(varies)
    return Signature(varies, *args, **kwargs)


subtask = signature


def maybe_signature(d: Any, app: Any = None, clone: bool = False) -> Any:
    """Return a signature for a signature or a wire form, and None for None; ``clone`` copies signatures."""
    if isinstance(d, Signature):
        return d.clone() if clone else d
    return Signature.from_dict(d) if isinstance(d, Mapping) else d


maybe_subtask = maybe_signature


def members_of(tasks: Sequence[Any]) -> "list[Signature[Any]]":
    """Return the members of a primitive as signatures, from one iterable or several arguments."""
    only: Any = tasks[0] if len(tasks) == 1 else None
    if isinstance(only, Iterator):
        return Unmade(map(member_of, only))
    return [member_of(task) for task in (only if isinstance(only, Iterable) and not isinstance(only, Mapping) else tasks)]


def member_of(task: Any) -> Signature[Any]:
    """Return a part of a primitive as a signature; TypeError for what is none."""
    member = maybe_signature(task)
    if not isinstance(member, Signature):
        name = getattr(task, "name", None)
        hint = f"did you mean {name}.s(...)?" if name else "a task's .s(...) or .si(...) makes one"
        raise TypeError(f"a workflow is made of signatures, and {task!r} is none; {hint}")
    return member.as_part()
