"""URLs of brokers and result backends: reading them, splitting fail-over lists, hiding passwords."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from django_tasks.exceptions import ImproperlyConfigured

#: Names that stand for whole URLs: django-celery-results' and Celery's.
ALIASES: Final[Mapping[str, str]] = {
    "django-db": "db://default",
    "django-cache": "cache://default",
    "disabled": "disabled://",
    "django_celery_results.backends:DatabaseBackend": "db://default",
    "django_celery_results.backends:CacheBackend": "cache://default",
}

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-_]*\Z")
# A semicolon ends a URL only where another one begins, so that passwords may hold one.
_NEXT_URL: Final = re.compile(r";\s*(?=[A-Za-z][A-Za-z0-9+.\-_]*://)|;\s*\Z")
_SECRET_OPTION: Final = re.compile(r"(?i)([?&][^=&#]*(?:password|passwd|secret|token|credential)[^=&#]*=)[^&#]*")
# Where a URL is all there is, up to the next option: a value written without escapes may hold any other character.
_OPTION_OF_A_URL: Final = re.compile(_SECRET_OPTION.pattern.replace("[^&#]*", "[^&]*"))
_SECRET_NAME: Final = re.compile(
    r"(?i)password|passwd|passphrase|secret|token|credential|(?:^|_)(?:dsn|auth)$|(?:access|account|private|api)_?key"
)
# A quote ends a URL in a text only where the text goes on behind it.
_CREDENTIALS: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.\-_]*://[^\s:/@'\"]*:)(?:[^\s'\"]|['\"](?=[^\s,;:)\]}'\"]))*@")
_QUOTED: Final = re.compile(r"'([^']+)'|\"([^\"]+)\"")
_MASK: Final = "**"
#: Most characters of a value that are shown.
_LONGEST_SHOWN: Final = 500


@dataclass(frozen=True, slots=True)
class URL:
    """A URL taken apart. ``rest`` is what stands between ``://`` and ``?``; ``options`` are the query's, as text."""

    text: str
    scheme: str
    rest: str
    options: Mapping[str, str]

    @property
    def alias(self) -> str:
        """The name in ``db://ALIAS`` and ``cache://ALIAS``; without one, ``default``."""
        return unquote(self.rest.strip("/")) or "default"

    @property
    def host(self) -> str | None:
        """The host, or None."""
        return self._parts.hostname

    @property
    def port(self) -> int | None:
        """The port, or None. Raises ValueError for one that is no number."""
        return self._parts.port

    @property
    def username(self) -> str | None:
        """The user, decoded, or None."""
        return None if self._parts.username is None else unquote(self._parts.username)

    @property
    def password(self) -> str | None:
        """The password, decoded, or None."""
        return None if self._parts.password is None else unquote(self._parts.password)

    @property
    def path(self) -> str:
        """What follows the host, decoded, without the first slash: a database number, a virtual host."""
        return unquote(self._parts.path.removeprefix("/"))

    @property
    def _parts(self) -> SplitResult:
        return urlsplit("//" + self.rest)

    def __str__(self) -> str:
        return mask(self.text)

    def __repr__(self) -> str:
        return f"URL({mask(self.text)!r})"


def parse(url: str) -> URL:
    """Take one URL apart, or a name that stands for one: ``django-db``, ``django-cache``, ``disabled``, a bare scheme.

    Raises ImproperlyConfigured for what is no URL.
    """
    text = ALIASES.get(url, url)
    scheme, separator, remainder = text.partition("://")
    if not _SCHEME.match(scheme):
        raise ImproperlyConfigured(f"{mask(url)!r} is no URL: it must look like db://default or redis://host:6379/0")
    rest, _, query = remainder.partition("?")
    return URL(text if separator else f"{text}://", scheme.lower(), rest, dict(parse_qsl(query, keep_blank_values=True)))


def failover(value: str | Iterable[str]) -> list[str]:
    """Split a fail-over list, written as a list or with semicolons, into its URLs."""
    parts = [value] if isinstance(value, str) else list(value)
    found = [url.strip() for part in parts for url in _NEXT_URL.split(part)]
    return [url for url in found if url]


def mask(url: str | Iterable[str]) -> str:
    """Return the URL, or the fail-over list joined by semicolons, with stars for passwords; fit for logs."""
    return ";".join(_mask_one(part) for part in failover(url))


def mask_alias(alias: str) -> str:
    """Return the name of a database or cache as messages show it: with a colon in it, it was meant to be a server's URL."""
    name, colon, _ = alias.partition(":")
    return f"{name}:{_MASK}" if colon else alias


def mask_within(text: str) -> str:
    """Return a text, of an error for instance, with stars for the passwords of the URLs in it."""
    return _SECRET_OPTION.sub(rf"\g<1>{_MASK}", _CREDENTIALS.sub(rf"\g<1>{_MASK}@", text)) if "://" in text else text


def told(error: BaseException, tried: "URL | str | Iterable[str]") -> str:
    """Return the text of an error that a library raised for a URL, or a list of them, with stars for what it quotes of passwords.

    Python's own words for a password with a slash in it are that the port, half of the password, is no number.
    """
    text = mask_within(str(error))
    written = [secret for url in failover(tried.text if isinstance(tried, URL) else tried) if (secret := _secret(url))]
    secrets = [*written, *map(unquote, written)]
    for secret in secrets:
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", _MASK, text)
    whole = "\n".join(secrets)
    text = _QUOTED.sub(lambda found: _hidden(found[1] or found[2], whole), text)
    if isinstance(error, ValueError) and text != str(error):
        text += " (in a URL, characters of a password such as / ? # [ ] @ % are written with percent signs: %2F for a slash)"
    return text


def _hidden(quoted: str, secrets: str) -> str:
    piece, at, rest = quoted.rpartition("@") if "@" in quoted else (quoted, "", "")
    return f"'{_MASK}{at}{rest}'" if piece in secrets else repr(quoted)


def _secret(url: str) -> str:
    return url.partition("://")[2].rpartition("@")[0].partition(":")[2]


def shown(value: Any, name: str = "") -> str:
    """Return the repr of a setting's value, fit for messages and logs: stars for passwords, wherever in it they are, and cut.

    ``name`` is the setting's, or the option's: what is called a password, a secret, a token or a key is none of the reader's business.
    """
    text = repr(_masked(value, name))
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


def _masked(value: Any, name: str) -> Any:
    if value is None or isinstance(value, bool) or not value:
        return value
    if _SECRET_NAME.search(name):
        return _Said(_MASK)
    if isinstance(value, Mapping):
        return {key: _masked(each, str(key)) for key, each in value.items()}
    match value:
        case [str(called), each] if called.isidentifier() and _SECRET_NAME.search(called):
            # A pair, as of a dictionary.
            return [called, _masked(each, called)]
    if isinstance(value, list | tuple | set | frozenset):
        each_masked = [_masked(each, "") for each in value]
        return each_masked if isinstance(value, list) else tuple(each_masked)
    if isinstance(value, str):
        return mask(value) if "@" in value or "?" in value else value
    if isinstance(value, bytes):
        return mask_within(value.decode(errors="replace"))
    return value if isinstance(value, int | float | type) else _Said(mask_within(repr(value)))


class _Said(str):
    """A text that is a repr already."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _mask_one(url: str) -> str:
    scheme, separator, remainder = url.partition("://")
    if not separator:
        # No URL; with a colon before an @ it was meant to be one.
        return re.sub(r"(?s):.*@", f":{_MASK}@", url) if "@" in url else url
    # Up to the last @, since a password written without escapes may hold any character: better to hide too much.
    credentials, at, host = _OPTION_OF_A_URL.sub(rf"\g<1>{_MASK}", remainder).rpartition("@")
    user, colon, _password = credentials.partition(":")
    shown = f"{user}:{_MASK}" if colon else credentials
    return f"{scheme}://{shown}{at}{host}"
