"""Every setting: its default, its type, its range, and what it does. Source of the checks and of the reference page."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from django_tasks.conf_options.celery_backends import CELERY_BACKENDS
from django_tasks.conf_options.effective import EFFECTIVE
from django_tasks.conf_options.forms import DURATION, NONE, NUMBER, Option
from django_tasks.conf_options.ineffective import INEFFECTIVE
from django_tasks.conf_options.renamed import current_name
from django_tasks.conf_options.transports import TRANSPORTS

#: Name → option: those with an effect first.
OPTIONS: Final[Mapping[str, Option]] = MappingProxyType({**EFFECTIVE, **TRANSPORTS, **CELERY_BACKENDS, **INEFFECTIVE})

__all__ = ["CELERY_BACKENDS", "DURATION", "NONE", "NUMBER", "OPTIONS", "Option", "current_name"]
