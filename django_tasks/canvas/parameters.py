"""What a task's function takes, where decorators stand around it."""

import inspect
from collections.abc import Callable
from types import MethodType
from typing import Any


def own_signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return what calls may give: the outermost callable's signature, as in Celery. A decorator may add arguments, or take some."""
    return inspect.signature(function, follow_wrapped=False)


def told_signature(function: Callable[..., Any]) -> inspect.Signature:
    """Return what is known of the arguments: of a decorator that takes any, the signature of what it wraps."""
    found = own_signature(function)
    inner = getattr(function, "__wrapped__", None)
    kinds = {parameter.kind for parameter in found.parameters.values()}
    if inner is None or not kinds >= {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        return found
    return told_signature(MethodType(inner, function.__self__) if inspect.ismethod(function) else inner)
