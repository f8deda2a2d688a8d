"""BROKER_TRANSPORT_OPTIONS of redis:// and its kin: kombu's, redis-py's, and ``priority_order``, which is ours."""

import logging
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

from django_tasks.brokers.redis.keys import Keys
from django_tasks.exceptions import ImproperlyConfigured
from django_tasks.urls import shown

logger = logging.getLogger("django_tasks.redis")

_NUMBER: Final = (int, float)
_NONE: Final = type(None)
#: What redis-py is given, with the types that it takes.
REDIS_PY: Final[Mapping[str, tuple[type, ...]]] = {
    "socket_timeout": (*_NUMBER, _NONE),
    "socket_connect_timeout": (*_NUMBER, _NONE),
    "socket_keepalive": (bool, _NONE),
    "socket_keepalive_options": (dict, _NONE),
    "health_check_interval": _NUMBER,
    "client_name": (str, _NONE),
    "username": (str, _NONE),
    "password": (str, _NONE),
    "credential_provider": (object,),
    "master_name": (str,),
    "min_other_sentinels": (int,),
    "sentinel_kwargs": (dict, _NONE),
}
#: What is read here.
_OURS: Final[Mapping[str, tuple[type, ...]]] = {
    "visibility_timeout": _NUMBER,
    "global_keyprefix": (str,),
    "sep": (str,),
    "priority_steps": (list, tuple, range),
    "priority_order": (str,),
    "queue_order_strategy": (str,),
    "unacked_key": (str,),
    "unacked_index_key": (str,),
    "unacked_mutex_key": (str,),
    "max_connections": (int, _NONE),
}
#: kombu's, about its own way of consuming and of fanning out.
# fmt: off
_KOMBUS: Final = frozenset({
    "ack_emulation", "unacked_mutex_expire", "unacked_restore_limit", "unacked_restore_interval",
    "unacked_restore_throttle", "fanout_prefix", "fanout_patterns", "retry_on_timeout", "reauth_check_interval", "sentinel_fanout_compat",
    "polling_interval", "connection_class", "connection_class_ssl", "body_encoding", "deadletter_queue", "do_restore", "max_retries",
    "interval_start", "interval_step", "interval_max", "confirm_publish", "retry_policy", "errback",
})
# fmt: on
_STRATEGIES: Final = ("round_robin", "sorted", "priority")
_ORDERS: Final = ("larger", "celery")


def checked(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the options if each has a value that it can have.

    Raises ImproperlyConfigured otherwise. Names that nobody knows are ignored, as kombu does, but not without a word.
    """
    known = {**REDIS_PY, **_OURS}
    for name, value in options.items():
        if name not in known:
            if name not in _KOMBUS:
                near = get_close_matches(name, [*known, *_KOMBUS], n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                logger.warning("BROKER_TRANSPORT_OPTIONS has %r, which means nothing to Redis and is ignored%s", name, hint)
        elif not isinstance(value, known[name]) or (isinstance(value, bool) and bool not in known[name] and object not in known[name]):
            wanted = " or ".join("None" if one is _NONE else one.__name__ for one in known[name])
            raise ImproperlyConfigured(f"BROKER_TRANSPORT_OPTIONS: {name!r} is {shown(value, name)}, but must be {wanted}")
    _check_words(options)
    if options.get("visibility_timeout", 1) <= 0:
        raise ImproperlyConfigured(
            f"BROKER_TRANSPORT_OPTIONS: 'visibility_timeout' is {options['visibility_timeout']!r}, but must be a number of seconds above 0"
        )
    return options


def _check_words(options: Mapping[str, Any]) -> None:
    for name, words in (("queue_order_strategy", _STRATEGIES), ("priority_order", _ORDERS)):
        if name in options and options[name] not in words:
            raise ImproperlyConfigured(f"BROKER_TRANSPORT_OPTIONS: {name!r} is {options[name]!r}, but must be one of {', '.join(words)}")
    steps = options.get("priority_steps", (0,))
    if 0 not in steps or not all(type(step) is int and 0 <= step <= 9 for step in steps):
        raise ImproperlyConfigured(
            f"BROKER_TRANSPORT_OPTIONS: 'priority_steps' is {steps!r}, but must be whole numbers from 0 to 9, 0 among them"
        )


def keys_of(options: Mapping[str, Any]) -> Keys:
    """Name the keys as the options say."""
    return Keys(
        prefix=options.get("global_keyprefix", ""),
        sep=options.get("sep", "\x06\x16"),
        steps=tuple(options.get("priority_steps", (0, 3, 6, 9))),
        celery_order=options.get("priority_order") == "celery",
        unacked_name=options.get("unacked_key", "unacked"),
        unacked_index_name=options.get("unacked_index_key", "unacked_index"),
        mutex_name=options.get("unacked_mutex_key", "unacked_mutex"),
    )
