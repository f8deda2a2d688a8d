"""``pydantic=True``: arguments annotated with pydantic models arrive as models, and returned models leave as data."""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from django_tasks.canvas.parameters import told_signature
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.tasks.definition import Task


def with_models(
    function: Callable[..., Any], name: str, *, bind: bool, options: Mapping[str, Any]
) -> tuple[Callable[..., Any], Callable[[Any, Any], tuple[Any, Any]]]:
    """Return the function with its models validated, and what turns models given by callers into data."""
    try:
        base: Any = import_module("pydantic").BaseModel
    except ModuleNotFoundError as error:
        raise ImproperlyConfigured(f"task {name} has pydantic=True, and pydantic is not installed; it was not registered") from error
    models = Models(function, name, base, options)
    if inspect.iscoroutinefunction(function):

        @wraps(function)
        async def avalidated(*args: Any, **kwargs: Any) -> Any:
            args, kwargs = models.validated(args, kwargs)
            return models.dumped_result(await function(*args, **kwargs))

        avalidated.__signature__ = models.signature  # type: ignore[attr-defined]
        return avalidated, models.dumper(bind=bind)

    @wraps(function)
    def validated(*args: Any, **kwargs: Any) -> Any:
        args, kwargs = models.validated(args, kwargs)
        return models.dumped_result(function(*args, **kwargs))

    validated.__signature__ = models.signature  # type: ignore[attr-defined]
    return validated, models.dumper(bind=bind)


class Models:
    """The models in one function's annotations."""

    def __init__(self, function: Callable[..., Any], name: str, base: type[Any], options: Mapping[str, Any]) -> None:
        self._base = base
        self._strict = bool(options.get("pydantic_strict", False))
        self._name = name
        self._given_context = dict(options.get("pydantic_context") or {})
        self._dump_options = {"mode": "json", **(options.get("pydantic_dump_kwargs") or {})}
        self.signature = told_signature(function)
        try:
            hints = get_type_hints(function)
        except (NameError, AttributeError, TypeError):
            # An annotation that can't be read now: the others still can.
            hints = {p.name: p.annotation for p in self.signature.parameters.values()}
            hints["return"] = self.signature.return_annotation
        self._by_name = {parameter: model for parameter, hint in hints.items() if (model := self._model(hint)) is not None}
        self._returned = self._by_name.pop("return", None)

    def validated(self, args: Any, kwargs: Any) -> tuple[Any, Any]:
        """Return arguments with models in the place of data; pydantic's ValidationError for what doesn't fit."""
        bound = self.signature.bind(*args, **kwargs)
        for parameter, model in self._by_name.items():
            value = bound.arguments.get(parameter)
            if value is not None:
                bound.arguments[parameter] = model.model_validate(value, strict=self._strict, context=self._context())
        return bound.args, bound.kwargs

    def _context(self) -> dict[str, Any]:
        # A new one each time: validators may write into it.
        return {**self._given_context, "celery_app": Task.app, "celery_task_name": self._name}

    def dumped_result(self, value: Any) -> Any:
        """Return data in the place of the model that the function is annotated to return."""
        if self._returned is not None and isinstance(value, self._returned):
            return value.model_dump(**self._dump_options)
        return value

    def dumper(self, *, bind: bool) -> Callable[[Any, Any], tuple[Any, Any]]:
        """Return what turns models among a caller's arguments into data."""
        names = [p.name for p in self.signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)][bind:]

        def dump(args: Any, kwargs: Any) -> tuple[Any, Any]:
            if not any(isinstance(value, self._base) for value in (*args, *kwargs.values())):
                return args, kwargs
            # zip: what lies beyond the named parameters goes to *args, which has no model.
            dumped = [self._dumped(name, value) for name, value in zip(names, args, strict=False)]
            return (*dumped, *args[len(dumped) :]), {name: self._dumped(name, value) for name, value in kwargs.items()}

        return dump

    def _dumped(self, name: str, value: Any) -> Any:
        if name in self._by_name and isinstance(value, self._base):
            return value.model_dump(**self._dump_options)
        return value

    def _model(self, hint: Any) -> Any:
        """Return the model of ``Model`` or ``Model | None``; None for other annotations."""
        if get_origin(hint) in (Union, UnionType):
            others = [each for each in get_args(hint) if each is not type(None)]
            hint = others[0] if len(others) == 1 else None
        return hint if isinstance(hint, type) and issubclass(hint, self._base) else None
