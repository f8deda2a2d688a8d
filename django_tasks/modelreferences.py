"""Model instances as arguments: a reference travels, and the worker loads the row that it names (TASK_MODEL_REFERENCES).

The task sees the row as it is when it runs, not as it was when it was called.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from asgiref.sync import sync_to_async
from django.apps import apps

from django_tasks import serializers
from django_tasks.conf import settings
from django_tasks.context import Request
from django_tasks.exceptions import DecodeError, EncodeError
from django_tasks.middleware import Execute, Middleware


@dataclass(frozen=True, slots=True)
class ModelReference:
    """Names a row: ``model`` is ``app_label.modelname``, ``using`` the database alias that it was loaded from."""

    model: str
    pk: Any
    using: str = "default"

    def __json__(self) -> dict[str, Any]:
        return {"__type__": serializers.MODEL_MARK, "__value__": {"model": self.model, "pk": self.pk, "using": self.using}}

    def load(self) -> Any:
        """Load the row. Raises the model's DoesNotExist when it is gone, and LookupError for a model that isn't installed."""
        return apps.get_model(self.model)._base_manager.using(self.using).get(pk=self.pk)  # noqa: SLF001  the manager that hides no rows


class ModelReferences(serializers.References):
    """Makes and reads references where the setting allows it."""

    def make(self, instance: Any) -> Any:
        """Refer to a saved instance; None where TASK_MODEL_REFERENCES is off. EncodeError for one that no worker could load."""
        if not settings.TASK_MODEL_REFERENCES:
            return None
        state = instance._state  # noqa: SLF001  documented by Django under this name
        if instance.pk is None or state.adding:
            raise EncodeError(f"{type(instance).__qualname__} has not been saved, so no worker could load it: save it before the call")
        return ModelReference(instance._meta.label_lower, instance.pk, state.db or "default").__json__()

    def read(self, value: Any) -> Any:
        """Read a reference. DecodeError for what is none."""
        try:
            return ModelReference(str(value["model"]), value["pk"], str(value.get("using", "default")))
        except (KeyError, TypeError, AttributeError) as error:
            raise DecodeError(f"a reference to a model instance must have model and pk, but it is {value!r}") from error


serializers.references = ModelReferences()


def loaded(value: Any) -> Any:
    """Return the value with every reference in it, also in lists and dictionaries, replaced by its row."""
    if isinstance(value, ModelReference):
        return value.load()
    if isinstance(value, list | tuple):
        return [loaded(one) for one in value]
    if isinstance(value, dict):
        return {key: loaded(one) for key, one in value.items()}
    return value


class ModelLoading(Middleware):
    """Loads what references name, in the slot that runs the task; a row that is gone is the task's failure."""

    def execute(self, request: Request, call_next: Execute) -> Any:
        """Load, then run."""
        self._load(request)
        return call_next(request)

    async def aexecute(self, request: Request, call_next: Execute) -> Any:
        """Load in the thread of Django's synchronous code, then run."""
        await sync_to_async(self._load, thread_sensitive=True)(request)
        return await call_next(request)

    @staticmethod
    def _load(request: Request) -> None:
        message = request.message
        kwargs: Mapping[str, Any] = loaded(dict(message.kwargs))
        request.message = replace(message, args=loaded(list(message.args)), kwargs=kwargs)
