"""Checks of the URLs of broker and results, and of the SQLite databases behind them."""

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning

from django_tasks import brokers, result_backends, routing, urls
from django_tasks.checks.findings import ADDRESSES, failures, well_typed, where, works
from django_tasks.conf import settings

_NOT_SHARED: Final = ("django.core.cache.backends.locmem.LocMemCache", "django.core.cache.backends.dummy.DummyCache")
#: Settings beside the URLs that opening them reads.
_READ_AT_OPENING: Final = (
    "BROKER_TRANSPORT_OPTIONS",
    "BROKER_USE_SSL",
    "BROKER_CONNECTION_TIMEOUT",
    "BROKER_POOL_LIMIT",
    "RESULT_BACKEND_TRANSPORT_OPTIONS",
    "TASK_QUEUES",
)
#: Where SQLite says how a file is journalled, and what it says for WAL (the two version numbers of the file format).
_WAL_BYTES: Final = slice(18, 20)
_WAL: Final = b"\x02\x02"


def check_addresses(**_kwargs: Any) -> list[CheckMessage]:
    """E005, E006, E007, W008: URLs of the broker and of the results that lead nowhere, or not far enough."""
    found: list[CheckMessage] = []
    for name, identifier, opens in (
        ("BROKER_URL", "django_tasks.E005", lambda _: brokers.current()),
        ("RESULT_BACKEND", "django_tasks.E007", lambda _: result_backends.current()),
    ):
        value = getattr(settings, name)
        if not well_typed(name) or not value:
            continue
        wrong = list(_wrong_aliases(name, value))
        found += wrong
        if not wrong and _can_be_opened():
            # Opening connects to nothing; it says best what it can't open.
            found += [
                Error(f"{where(name)}: {urls.mask_within(str(error)).removeprefix(name).lstrip(': ')}", hint=ADDRESSES[name], id=identifier)
                for _, error in failures(opens, [value])
            ]
    return found


def check_queues(**_kwargs: Any) -> list[CheckMessage]:
    """E017: queues of TASK_QUEUES that the broker can't carry."""
    if not well_typed("BROKER_URL") or not _can_be_opened() or not works(lambda _: brokers.current(), None):
        return []
    broker = brokers.current()
    return [
        Error(
            f"TASK_QUEUES and the broker {urls.mask(settings.BROKER_URL)} don't go together: {refusal}",
            hint="Describe the queue otherwise, or take it out of TASK_QUEUES. Until then it takes no message, and no worker starts.",
            id="django_tasks.E017",
        )
        for queue in routing.current().queue_names
        if (refusal := broker.refusal(queue))
    ]


def check_sqlite(**_kwargs: Any) -> list[CheckMessage]:
    """W004, W005: SQLite databases that several processes can't share well."""
    found: list[CheckMessage] = []
    for alias in dict.fromkeys(url.alias for name in ADDRESSES for url in _database_urls(name)):
        database = django_settings.DATABASES.get(alias) or {}
        if not str(database.get("ENGINE", "")).endswith("sqlite3"):
            continue
        if _is_in_memory(database):
            found.append(
                Warning(
                    f"The SQLite database {alias!r} is in memory: a worker is another process and sees none of its messages or results.",
                    hint="Give it a file, or use memory:// for both in tests.",
                    id="django_tasks.W005",
                )
            )
        elif settings.SQLITE_TUNING is False and (lacking := _untuned(database)):
            found.append(
                Warning(
                    f"The SQLite database {alias!r} has no {' and no '.join(lacking)}, so «database is locked» errors are to be expected.",
                    hint="Remove SQLITE_TUNING = False, or set its OPTIONS to"
                    ' {"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL"}.',
                    id="django_tasks.W004",
                )
            )
    return found


def check_outbox(**_kwargs: Any) -> list[CheckMessage]:
    """E015, W011: an outbox in no database, and one that is there already."""
    alias = settings.TASK_OUTBOX_DATABASE
    if not well_typed("TASK_OUTBOX_DATABASE", "TASK_PUBLISH_OUTBOX"):
        return []
    if alias not in django_settings.DATABASES:
        nearest = get_close_matches(alias, django_settings.DATABASES, n=1)
        return [
            Error(
                f"{where('TASK_OUTBOX_DATABASE')} is {alias!r}, but DATABASES has no {alias!r}.",
                hint=f"There are {', '.join(sorted(django_settings.DATABASES))}." + (f" Did you mean {nearest[0]!r}?" if nearest else ""),
                id="django_tasks.E015",
            )
        ]
    if settings.TASK_PUBLISH_OUTBOX and any(url.alias == alias for url in _database_urls("BROKER_URL")):
        return [
            Warning(
                f"{where('TASK_PUBLISH_OUTBOX')} has no effect: the broker is the database {alias!r} itself, whose messages are rows of the"
                " transaction in any case.",
                hint="Remove it, or give BROKER_URL another broker.",
                id="django_tasks.W011",
            )
        ]
    return []


def _can_be_opened() -> bool:
    # What is wrong with these is said by the checks of values and of routing.
    return well_typed(*_READ_AT_OPENING) and works(lambda _: routing.current(), None)


def _parsed(name: str) -> list[urls.URL]:
    value = getattr(settings, name)
    if not well_typed(name) or not value or not works(lambda urls_: [urls.parse(url) for url in urls.failover(urls_)], value):
        return []
    return [urls.parse(url) for url in urls.failover(value)]


def _database_urls(name: str) -> list[urls.URL]:
    return [url for url in _parsed(name) if url.scheme == "db"]


def _wrong_aliases(name: str, value: Any) -> Iterator[CheckMessage]:
    for url in _parsed(name):
        registry = {"db": "DATABASES", "cache": "CACHES"}.get(url.scheme)
        if registry is None:
            continue
        known: dict[str, Any] = getattr(django_settings, registry)
        if url.alias not in known:
            nearest = get_close_matches(url.alias, known, n=1)
            hint = f"There are {', '.join(sorted(known))}." + (f" Did you mean {url.scheme}://{nearest[0]}?" if nearest else "")
            yield Error(
                f"{where(name)} is {urls.mask(value)!r}, but {registry} has no {urls.mask_alias(url.alias)!r}.",
                hint=hint,
                id="django_tasks.E006",
            )
        elif registry == "CACHES" and known[url.alias].get("BACKEND") in _NOT_SHARED:
            yield Warning(
                f"{where(name)} keeps results in the cache {url.alias!r}, which no two processes share: nobody can read them.",
                hint="Use a cache that processes share, or RESULT_BACKEND = 'db://default'.",
                id="django_tasks.W008",
            )


def _is_in_memory(database: dict[str, Any]) -> bool:
    name = str(database.get("NAME") or "")
    return name in {"", ":memory:"} or "mode=memory" in name


def _untuned(database: dict[str, Any]) -> list[str]:
    options = database.get("OPTIONS") or {}
    lacking = []
    if "journal_mode" not in str(options.get("init_command") or "").lower() and not _is_wal(Path(str(database["NAME"]))):
        lacking.append("write-ahead log")
    if str(options.get("transaction_mode") or "").upper() not in {"IMMEDIATE", "EXCLUSIVE"}:
        lacking.append("immediate transactions")
    return lacking


def _is_wal(file: Path) -> bool:
    try:
        with file.open("rb") as opened:
            return opened.read(_WAL_BYTES.stop)[_WAL_BYTES] == _WAL
    except OSError:
        return False
