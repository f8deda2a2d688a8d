"""``app.conf``: the settings under Celery's names."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from django.core.signals import setting_changed

from django_tasks.conf import settings
from django_tasks.conf_options import OPTIONS


class Conf:
    """The settings under Celery's names: ``app.conf.task_routes``, ``app.conf["TASK_ROUTES"]``.

    What is assigned here holds in this process only, and wins over ``DJANGO_TASKS``. An unknown name raises
    AttributeError (KeyError for items), naming the nearest one.
    """

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(settings, _setting(name, AttributeError))

    def __setattr__(self, name: str, value: Any) -> None:
        self.update({_setting(name, AttributeError): value})

    def __getitem__(self, name: str) -> Any:
        return getattr(settings, _setting(name, KeyError))

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and _upper(name) in OPTIONS

    def __iter__(self) -> Iterator[str]:
        return (name.lower() for name in OPTIONS)

    def get(self, name: str, default: Any = None) -> Any:
        """Return a setting, or ``default`` if there is none of this name."""
        return getattr(settings, _upper(name)) if name in self else default

    def update(self, values: Mapping[str, Any] | None = None, **more: Any) -> None:
        """Override settings in this process. Connections that were made with the old ones are forgotten."""
        # All names first: an unknown one leaves every setting as it is.
        for name, value in {_setting(name, KeyError): value for name, value in {**(values or {}), **more}.items()}.items():
            settings.override(name, value)
        # Whatever was made from the settings listens to this, as in tests.
        setting_changed.send(sender=type(self), setting="DJANGO_TASKS", value=None, enter=True)

    def __repr__(self) -> str:
        return "<conf: the settings of DJANGO_TASKS>"


def _upper(name: str) -> str:
    name = name.upper()
    return name.removeprefix("CELERY_") if name.startswith("CELERY_") else name


def _setting(name: str, error: type[Exception]) -> str:
    upper = _upper(name)
    if upper not in OPTIONS:
        near = get_close_matches(upper, OPTIONS, n=1)
        raise error(f"there is no setting {name!r}" + (f"; did you mean {near[0].lower()!r}?" if near else ""))
    return upper
