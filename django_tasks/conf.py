"""Settings: ``DJANGO_TASKS``, then ``CELERY_*``, then the defaults; one frozen view of them, made when first asked.

``settings.TASK_DEFAULT_QUEUE`` reads a setting; a changed Django setting (``override_settings``) is seen at once.
The table of what exists, with types and ranges, is ``conf_options``; what is wrong with a project's values is
said by the system checks.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from django.conf import settings as django_settings

from django_tasks.conf_options import OPTIONS

#: What ``app.conf`` was given; kept beside the cached values, which are forgotten more often.
_overrides: dict[str, Any] = {}


class Settings:
    """Attribute access to every setting by its upper-case name.

    Values are looked up once and then kept as plain attributes, since publishing reads a dozen of them a call.
    """

    def __getattr__(self, name: str) -> Any:
        option = OPTIONS.get(name)
        if option is None:
            raise AttributeError(f"DJANGO_TASKS has no setting {name!r}")
        value = option.clean(self.configured(name, option.default))
        self.__dict__[name] = value
        return value

    def configured(self, name: str, default: Any = None) -> Any:
        """Return what the project set, before any conversion, or ``default``."""
        if name in _overrides:
            return _overrides[name]
        own = getattr(django_settings, "DJANGO_TASKS", None)
        # Anything but a dictionary is a system check's to report, which runs after much that reads settings.
        if isinstance(own, Mapping) and name in own:
            return own[name]
        return getattr(django_settings, "CELERY_" + name, default)

    def override(self, name: str, value: Any) -> None:
        """Give a setting another value in this process: it wins over what Django's settings say."""
        _overrides[name] = value
        self.reset()

    def overrides(self) -> dict[str, Any]:
        """Return what ``override`` was given so far."""
        return dict(_overrides)

    def drop_overrides(self) -> None:
        """Let Django's settings count again."""
        _overrides.clear()
        self.reset()

    def is_configured(self, name: str) -> bool:
        """Whether the project sets this itself."""
        missing = object()
        return self.configured(name, missing) is not missing

    def reset(self) -> None:
        """Forget the kept values: the Django settings have changed."""
        self.__dict__.clear()

    def __iter__(self) -> Iterator[str]:
        return iter(OPTIONS)


settings = Settings()
