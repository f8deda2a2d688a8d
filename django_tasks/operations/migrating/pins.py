"""Pins among requirements: versions that can't be installed beside us."""

import re
from collections.abc import Iterator
from typing import Final

#: What we need: package → the least version, and the first that is too new, if one is; as in pyproject.toml.
NEEDED: Final[dict[str, tuple[str, str | None]]] = {
    "django": ("5.2", "6.1"),
    "django-celery-beat": ("2.9", None),
    "kombu": ("5.6", None),
    "redis": ("5.0", None),
}
_LINE: Final = re.compile(
    r"""^\s*["']?(?P<name>[A-Za-z][\w.-]*)(?:\[[\w,\s-]*\])?["']?\s*"""
    r"""(?:=\s*(?:\{.*?\bversion\s*=\s*)?["'])?\s*\(?(?P<spec>(?:[=<>!~^]=?=?\s*v?\d[\w.*]*[\s,]*)+)"""
)
_CLAUSE: Final = re.compile(r"(===|==|~=|!=|<=|>=|<|>|\^|~)\s*v?(\d[\w.*]*)")

Version = tuple[int, ...]


def pin_fault(line: str) -> str:
    """Say what is wrong with a line of requirements that allows no version of a package that we can use, or an empty text."""
    found = _LINE.match(line)
    if found is None:
        return ""
    name = re.sub(r"[-_.]+", "-", found["name"]).lower()
    if name not in NEEDED:
        return ""
    least, too_new = NEEDED[name]
    low, high = _allowed(found["spec"])
    if (high is None or high > _version(least)) and (too_new is None or low < _version(too_new)):
        return ""
    needs = f"{name}>={least}{f',<{too_new}' if too_new else ''}"
    extra = ", where the broker or the results are in Redis" if name == "redis" else ""
    return f"can't be installed beside django-tasks-engine, which needs {needs}{extra}"


def _allowed(spec: str) -> tuple[Version, Version | None]:
    """Return the least version that a specifier allows, and the first above it that it doesn't; None where there is none."""
    low: Version = ()
    high: Version | None = None
    for first, above in _spans(spec):
        low = max(low, first)
        high = above if high is None else high if above is None else min(high, above)
    return low, high


def _spans(spec: str) -> Iterator[tuple[Version, Version | None]]:
    for operator, text in _CLAUSE.findall(spec):
        version = _version(text)
        if operator in {"==", "==="}:
            yield version, _next(version) if "*" in text else (*version, 1)
        elif operator == "~=":
            yield version, _next(version[:-1] or version)
        elif operator == "~":
            yield version, _next(version[:2])
        elif operator == "^":
            yield version, _next(version[:1])
        elif operator in {">", ">="}:
            yield version, None
        elif operator in {"<", "<="}:
            yield (), _short(version) if operator == "<" else (*version, 1)


def _version(text: str) -> Version:
    return tuple(int(part) for part in re.findall(r"\d+", re.split(r"[a-z*+]", text, maxsplit=1)[0]))


def _short(version: Version) -> Version:
    while len(version) > 1 and version[-1] == 0:
        version = version[:-1]
    return version


def _next(version: Version) -> Version:
    return (*version[:-1], version[-1] + 1)
