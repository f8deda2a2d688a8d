"""Checks of the settings one by one: names, types, ranges."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any
from zoneinfo import ZoneInfo

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning

from django_tasks import urls
from django_tasks.checks.findings import has_type, where, works
from django_tasks.conf import settings
from django_tasks.conf_options import OPTIONS, Option, current_name


def check_names(**_kwargs: Any) -> list[CheckMessage]:
    """E001, E010, W001, W002: settings that don't exist, and those without effect."""
    own = getattr(django_settings, "DJANGO_TASKS", None) or {}
    if not isinstance(own, dict):
        return [
            Error(
                f"DJANGO_TASKS is {urls.shown(own)}, of type {type(own).__name__}.",
                hint='It must be a dictionary, like {"BROKER_URL": "db://default"}.',
                id="django_tasks.E010",
            )
        ]
    found: list[CheckMessage] = [
        Error(f"DJANGO_TASKS has the unknown key {name!r}.", hint=_nearest_setting(str(name)), id="django_tasks.E001")
        for name in own
        if name not in OPTIONS
    ]
    for name in _celery_settings():
        if name.removeprefix("CELERY_") not in OPTIONS:
            hint = f"{_nearest_setting(name)} It counts for nothing here; remove it, or leave it for Celery and silence this check."
            found.append(Warning(f"The setting {name} is unknown.", hint=hint, id="django_tasks.W001"))
    for name, value in _configured():
        option = OPTIONS[name]
        if not option.effective and value != option.default:
            found.append(Warning(f"{where(name)} has no effect.", hint=option.doc.removeprefix("No effect. "), id="django_tasks.W002"))
    return found


def check_values(**_kwargs: Any) -> list[CheckMessage]:
    """E002, E003, E004, E013: values of a wrong type, or that are not allowed."""
    found = [message for name, value in _configured() for message in _check_value(name, value, OPTIONS[name])]
    zone = settings.TIMEZONE
    if isinstance(zone, str) and not works(ZoneInfo, zone):
        found.append(
            Error(
                f"{where('TIMEZONE')} is {zone!r}, which is no time zone.",
                hint="Use a name of the IANA database, like 'Europe/Berlin'; None means Django's TIME_ZONE.",
                id="django_tasks.E013",
            )
        )
    return found


def _celery_settings() -> list[str]:
    return sorted(name for name in dir(django_settings) if name.startswith(("CELERY_", "CELERYD_", "CELERYBEAT_")))


def _configured() -> Iterator[tuple[str, Any]]:
    """Every known setting that the project sets, with its value as it is written."""
    own = getattr(django_settings, "DJANGO_TASKS", None)
    if own and not isinstance(own, dict):
        return
    for name in OPTIONS:
        if settings.is_configured(name):
            yield name, settings.configured(name)


def _nearest_setting(name: str) -> str:
    plain = name.upper().removeprefix("CELERY_")
    today = plain if plain in OPTIONS else current_name(name.upper(), OPTIONS)
    if today is not None:
        return f"Its name is {today}."
    nearest = get_close_matches(plain, OPTIONS, n=1)
    return f"Did you mean {nearest[0]}?" if nearest else "No setting has a name like it; the reference page lists all."


def _check_value(name: str, value: Any, option: Option) -> Iterator[CheckMessage]:
    shown = urls.shown(value, name)
    if not has_type(value, option):
        allowed = ", ".join("None" if kind is type(None) else kind.__name__ for kind in option.types)
        yield Error(
            f"{where(name)} is {shown}, of type {type(value).__name__}.",
            hint=f"It must be of type {allowed}. {option.doc}",
            id="django_tasks.E002",
        )
    elif option.choices is not None and value not in option.choices:
        allowed = ", ".join(repr(choice) for choice in option.choices)
        nearest = get_close_matches(str(value), [str(choice) for choice in option.choices], n=1)
        hint = f"It must be one of {allowed}." + (f" Did you mean {nearest[0]!r}?" if nearest else "")
        yield Error(f"{where(name)} is {shown}.", hint=hint, id="django_tasks.E003")
    elif value is not None and not _in_range(option.clean(value), option):
        limits = [f"at least {option.at_least:g}"] if option.at_least is not None else []
        limits += [f"at most {option.at_most:g}"] if option.at_most is not None else []
        yield Error(f"{where(name)} is {shown}.", hint=f"It must be {' and '.join(limits)}. {option.doc}", id="django_tasks.E004")


def _in_range(value: Any, option: Option) -> bool:
    return not (
        isinstance(value, int | float)
        and ((option.at_least is not None and value < option.at_least) or (option.at_most is not None and value > option.at_most))
    )
