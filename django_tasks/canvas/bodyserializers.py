"""By which serializer a chord's body is kept until it is sent: that of the tasks that it is made of."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from django_tasks.conf import settings
from django_tasks.registry import registry
from django_tasks.result_backends import bodies


def serializer_of(body: Mapping[str, Any]) -> str:
    """Return the first serializer in a body that isn't JSON, else ``json``: whatever the others take as JSON, it takes as well."""
    return next((name for name in _serializers(body) if name != "json"), "json")


def _serializers(sig: Mapping[str, Any]) -> Iterator[str]:
    given = (sig.get("options") or {}).get("serializer")
    if given:
        yield given
    kwargs = sig.get("kwargs") or {}
    inner: Iterable[Mapping[str, Any]]
    match sig.get("subtask_type"):
        case "chord":
            header = kwargs.get("header") or ()
            inner = [*([header] if isinstance(header, Mapping) else header), *([kwargs["body"]] if kwargs.get("body") else [])]
        case "chain" | "group":
            inner = kwargs.get("tasks") or ()
        case _:
            if not given:
                yield getattr(registry.find(sig.get("task", "")), "serializer", None) or settings.TASK_SERIALIZER
            return
    for member in inner:
        yield from _serializers(member)


bodies.serializer_of = serializer_of
