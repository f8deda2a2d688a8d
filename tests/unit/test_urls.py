"""URLs of brokers and result backends."""

import pytest

from django_tasks import urls
from django_tasks.exceptions import ImproperlyConfigured


@pytest.mark.parametrize(
    ("text", "scheme", "alias"),
    [
        ("db://", "db", "default"),
        ("db://default", "db", "default"),
        ("db://other?poll=0.1", "db", "other"),
        ("django-db", "db", "default"),
        ("cache://fast", "cache", "fast"),
        ("django-cache", "cache", "default"),
        ("disabled", "disabled", "default"),
        ("disabled://", "disabled", "default"),
        ("DB://Other", "db", "Other"),
        ("db://a%20b/", "db", "a b"),
    ],
)
def test_an_alias_is_read(text, scheme, alias):
    """Scheme and alias come out of every form of the URL, and of the names that stand for one."""
    url = urls.parse(text)
    assert (url.scheme, url.alias) == (scheme, alias)


def test_the_parts_of_a_server_url_are_read():
    """User, password, host, port, path and options are decoded."""
    url = urls.parse("redis://us%40er:p%2Fw@example.org:6380/3?ssl=1&x=")
    assert (url.username, url.password, url.host, url.port, url.path) == ("us@er", "p/w", "example.org", 6380, "3")
    assert url.options == {"ssl": "1", "x": ""}


def test_a_scheme_alone_is_a_url():
    """A bare scheme counts as a URL with nothing behind it."""
    assert urls.parse("memory") == urls.parse("memory://")


@pytest.mark.parametrize("text", ["", "/tmp/x", "://x", "1db://x", "a b://x"])
def test_what_is_no_url_is_refused(text):
    """The error shows what was given and what a URL looks like."""
    with pytest.raises(ImproperlyConfigured, match=r"no URL.*db://default"):
        urls.parse(text)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("redis://a;redis://b", ["redis://a", "redis://b"]),
        ("redis://a; redis://b;", ["redis://a", "redis://b"]),
        (["redis://a", "redis://b;redis://c"], ["redis://a", "redis://b", "redis://c"]),
        ("amqp://u:p;w@a", ["amqp://u:p;w@a"]),
        ("", []),
    ],
)
def test_failover_lists_are_split(value, expected):
    """A semicolon splits only before another URL, so passwords may hold one."""
    assert urls.failover(value) == expected


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("redis://:secret@h:6379/0", "redis://:**@h:6379/0"),
        ("amqp://user:secret@h//", "amqp://user:**@h//"),
        ("amqp://user:se@cr:et@h//", "amqp://user:**@h//"),
        ("redis://:se?cret@h", "redis://:**@h"),
        ("redis://:se/cret@h", "redis://:**@h"),
        ("redis://:se;cret@h;redis://:secret@i", "redis://:**@h;redis://:**@i"),
        (["amqp://a:secret@h", "amqp://b:secret@i"], "amqp://a:**@h;amqp://b:**@i"),
        ("redis://h/0?password=secret&x=1", "redis://h/0?password=**&x=1"),
        ("sqs://KEY:secret@", "sqs://KEY:**@"),
        ("redis://user@h", "redis://user@h"),
        ("db://default", "db://default"),
        ("django-db", "django-db"),
        ("redis:user:secret@h", "redis:**@h"),
        ("user:se:cr@secret@h", "user:**@h"),
    ],
)
def test_passwords_are_hidden(value, shown):
    """No password survives masking, however carelessly it is written."""
    assert urls.mask(value) == shown
    assert "secret" not in urls.mask(value)


class Broken:
    def __repr__(self):
        return "<Queue amqp://u:secret@h>"


@pytest.mark.parametrize(
    ("value", "name", "text"),
    [
        ("redis://:secret@h", "BROKER_URL", "'redis://:**@h'"),
        (("redis://:secret@h", 5), "BROKER_URL", "('redis://:**@h', 5)"),
        ({"url": "redis://:secret@h"}, "", "{'url': 'redis://:**@h'}"),
        (
            {"password": "secret", "a": [{"api_key": "secret"}], "routing_key": "r"},
            "",
            "{'password': **, 'a': [{'api_key': **}], 'routing_key': 'r'}",
        ),
        ({"sentinel_kwargs": {"password": b"secret"}, "password": None}, "", "{'sentinel_kwargs': {'password': **}, 'password': None}"),
        (["secret"], "REDIS_PASSWORD", "**"),
        (b"amqp://u:secret@h", "", "'amqp://u:**@h'"),
        (Broken(), "TASK_QUEUES", "<Queue amqp://u:**@h>"),
        (5, "WORKER_CONCURRENCY", "5"),
        ("x" * 1000, "", "'" + "x" * 499 + "..."),
    ],
)
def test_a_settings_value_is_shown_without_its_secrets(value, name, text):
    """Whatever a setting holds, passwords must be hidden in it, wherever they are; the rest is shown, up to a length."""
    assert urls.shown(value, name) == text


def test_a_url_shows_no_password():
    """Neither str nor repr of a parsed URL tells the password."""
    url = urls.parse("redis://:secret@h")
    assert "secret" not in f"{url} {url!r}"
