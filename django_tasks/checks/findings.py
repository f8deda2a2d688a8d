"""What the checks share: where a setting is written, whether it can be looked at, and trying something out."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from django.conf import settings as django_settings

from django_tasks.conf import settings
from django_tasks.conf_options import OPTIONS, Option

#: Settings that are URLs, with what they may be.
ADDRESSES: Final = {
    "BROKER_URL": "It is db://ALIAS (a key of DATABASES), redis://HOST:6379/0, amqp://USER:PASSWORD@HOST:5672/VHOST, sqs:// or another"
    " transport of kombu's. Until it is right, nothing is sent and no worker starts.",
    "RESULT_BACKEND": "It is db://ALIAS (a key of DATABASES), cache://ALIAS (a key of CACHES), redis://HOST:6379/0, rpc://, disabled:// or"
    " a store of Celery's. Until it is right, no result is stored and no worker starts.",
}


def where(name: str) -> str:
    """Name a setting as the project writes it: in DJANGO_TASKS, or as a CELERY_ setting."""
    own = getattr(django_settings, "DJANGO_TASKS", None) or {}
    return f"DJANGO_TASKS[{name!r}]" if name in own or not hasattr(django_settings, f"CELERY_{name}") else f"CELERY_{name}"


def has_type(value: Any, option: Option) -> bool:
    """Whether a value has one of the types that a setting may have."""
    # True is an int to Python; WORKER_CONCURRENCY = True is a mistake all the same.
    if isinstance(value, bool) and bool not in option.types and object not in option.types:
        return False
    return isinstance(value, option.types)


def well_typed(*names: str) -> bool:
    """Whether these settings have values that can be looked at; if not, E002 or E010 has said so."""
    own = getattr(django_settings, "DJANGO_TASKS", None) or {}
    return isinstance(own, dict) and all(has_type(settings.configured(name, OPTIONS[name].default), OPTIONS[name]) for name in names)


def failures(attempt: Callable[[Any], Any], subjects: Iterable[Any]) -> Iterator[tuple[Any, Exception]]:
    """Try it with each subject; yield those that raise, with what they raise."""
    for subject in subjects:
        try:
            attempt(subject)
        except Exception as error:  # noqa: BLE001  whatever goes wrong is what the check reports
            yield subject, error


def works(attempt: Callable[[Any], Any], subject: Any) -> bool:
    """Whether it raises nothing with this subject."""
    return not any(failures(attempt, [subject]))
