"""``connection=`` and ``producer=`` of a call: accepted where they lead to BROKER_URL, refused where they lead to another broker."""

from collections.abc import Mapping
from typing import Any, Final

from django_tasks.conf import settings
from django_tasks.urls import mask, parse

#: Calling options that say by which connection a message is to leave.
CONNECTIONS: Final = frozenset({"connection", "producer", "publisher"})
#: Transport options without which an address is not the whole address.
_ADDRESSING: Final = ("master_name", "region", "data_folder_out")
_HERE: Final = frozenset({"127.0.0.1", "::1", "", None})


def refuse_other_brokers(options: Mapping[str, Any], doing: str, instead: str) -> None:
    """Raise ValueError if an option is a connection, or a producer on one, to another broker than BROKER_URL; else it has no effect.

    ``doing`` and ``instead`` are for its text: what was asked for, and what can be done. TypeError for what is neither.
    """
    for option in CONNECTIONS & options.keys():
        if options[option] is None:
            continue
        connection = _connection_of(options[option], option, doing)
        if _address(connection) not in _addresses():
            ours = mask(settings.BROKER_URL)
            raise ValueError(f"{doing}: {option}= leads to {connection.as_uri()}, but there is one broker, BROKER_URL {ours}. {instead}")


def _connection_of(given: Any, option: str, doing: str) -> Any:
    from django_tasks.kombuaccess import LocalConnection, kombu

    kinds = (kombu.Connection, LocalConnection)
    found = given if isinstance(given, kinds) else getattr(given, "connection", None)
    if not isinstance(found, kinds):
        raise TypeError(f"{doing}: {option}={given!r} is no connection of app.connection() or kombu's, nor a producer on one. Leave it out")
    return found


def _addresses() -> set[tuple[Any, ...]]:
    """Return where BROKER_URL leads, with each address of a fail-over list."""
    from django_tasks.kombuaccess import LocalConnection, kombu, open_connection

    ours = open_connection()
    others = [] if isinstance(ours, LocalConnection) else ours.alt
    return {_address(each) for each in (ours, *(kombu.Connection(url, transport_options=ours.transport_options) for url in others))}


def _address(connection: Any) -> tuple[Any, ...]:
    """Return what tells one broker from another: not who speaks to it, nor how."""
    from django_tasks.kombuaccess import LocalConnection

    if isinstance(connection, LocalConnection):
        url = parse(connection.url)
        return url.scheme, url.alias
    transport, options = connection.transport, connection.transport_options or {}
    host, _, query = (connection.hostname or "").partition("?")
    port = connection.port or transport.default_connection_params.get("port")
    kind, space = transport.driver_type, connection.virtual_host or "/"
    if kind == "redis":
        # The number of a database; that of a server behind a unix socket stands in the query.
        space = query.rpartition("virtual_host=")[2] if "://" in host else space.strip("/")
        space = space or "0"
    account = connection.userid if kind == "sqs" else None
    return kind, "localhost" if host in _HERE else host, port, space, account, *map(options.get, _ADDRESSING)
