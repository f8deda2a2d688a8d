"""Passwords in settings: no output shows them."""

import traceback
from urllib.parse import quote

import pytest
from django.core.checks import run_checks
from django.test import override_settings

from django_tasks import app, brokers, checks, result_backends
from django_tasks.events import current as current_events
from django_tasks.kombuaccess import open_connection
from django_tasks.worker.banner import compose_banner
from django_tasks.worker.options import WorkerOptions

URL = "amqp://user:s3cret@h//"


@pytest.mark.parametrize(
    "wrong",
    [
        {"BROKER_URL": {"url": URL}},
        {"BROKER_URL": [URL, 5]},
        {"BROKER_URL": "nonsense://:s3cret@h"},
        {"BROKER_URL": "redis:user:s3cret@h"},
        {"BROKER_URL": ["redis://:s3cret@h", "amqp://:s3cret@h"]},
        {"BROKER_URL": "redis://:s3cret@h/notanumber"},
        {"RESULT_BACKEND": b"redis://:s3cret@h"},
        {"RESULT_BACKEND": "redis://h/0?password=s3cret&nonsense=1"},
        {"RESULT_BACKEND": ["nonsense://:s3cret@h"]},
        {"BROKER_URL": "redis://h", "BROKER_TRANSPORT_OPTIONS": {"password": ["s3cret"]}},
        {"BROKER_URL": "redis://h", "BROKER_TRANSPORT_OPTIONS": {"sentinel_kwargs": [("password", "s3cret"), "redis://:s3cret@h"]}},
        {"BROKER_TRANSPORT_OPTIONS": [{"password": "s3cret"}]},
        {"REDIS_PASSWORD": ["s3cret"]},
        {"TASK_QUEUES": "redis://:s3cret@h"},
        {"BROKER_URL": "amqp://u:s3cret/s3cret@h"},
        {"BROKER_URL": "db://u:s3cret?@h"},
        {"RESULT_BACKEND": "cache://u:s3cret@h"},
    ],
    ids=str,
)
def test_checks_tell_no_password(wrong):
    """Whatever is wrong with a setting that holds a password, no check may show it."""
    told = told_by_checks(DJANGO_TASKS=wrong)
    assert "s3cret" not in told


#: Passwords that take a URL apart where they are not written with percent signs.
PASSWORDS = ["s3cr:et@/s3cr", quote("s3cr:et@/s3cr", safe=""), "s3cr/s3cr", "s3cr?s3cr", "s3cr#s3cr", "s3cr[s3cr", "'s3cr's3cr"]
FORMS = ["://u:{0}@127.0.0.1:1/0", "://:{0}@h:port/no", "://h:1/0?password={0}", "://u:{0}@h:1;{1}://:{0}@h:2"]


def everything_told(url):
    """Yield what the parts of the project say of a broker and a result backend of this URL."""
    for value in (url, url.split(";")):
        with override_settings(DJANGO_TASKS={"BROKER_URL": value}):
            yield compose_banner(WorkerOptions(name="w@h", queues=("q",)), [], with_tasks=False)
            for made in (brokers.current, current_events, app.bugreport, lambda: bool(open_connection())):
                yield said_by(made)
    with override_settings(DJANGO_TASKS={"BROKER_URL": "memory://masking", "RESULT_BACKEND": url}):
        yield from map(said_by, (result_backends.current, app.bugreport))


def said_by(made):
    """Return the repr of what is made, or what the errors say that keep it from being made, as a traceback shows them."""
    try:
        return repr(made())
    except Exception as error:
        return "".join(traceback.format_exception_only(error)) + repr(error.__cause__)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scheme", ["redis", "redis+socket", "amqp", "db", "cache"])
def test_no_output_tells_a_password(scheme, form):
    """Neither whole nor in part: what a library's error quotes of a URL that it can't read is masked, too."""
    urls = [scheme + form.format(password, scheme) for password in PASSWORDS]
    assert [text for url in urls for text in everything_told(url) if "s3cr" in text] == []


def test_a_setting_that_is_no_dictionary_tells_no_password():
    """Not even where nothing of it can be read."""
    told = told_by_checks(DJANGO_TASKS=[URL])
    assert "E010" in told
    assert "s3cret" not in told


def told_by_checks(**django_settings):
    """Run our checks under these settings; return all that they say."""
    with override_settings(**django_settings):
        return " ".join(f"{message.id} {message.msg} {message.hint}" for message in run_checks(tags=[checks.TAG]))


@pytest.mark.parametrize("value", [URL, [URL, "redis://:s3cret@h"], "redis://h/0?password=s3cret"], ids=str)
def test_a_workers_banner_tells_no_password(value):
    """Neither of the broker nor of the results, one address or several."""
    with override_settings(DJANGO_TASKS={"BROKER_URL": value, "RESULT_BACKEND": value if isinstance(value, str) else "disabled://"}):
        banner = compose_banner(WorkerOptions(name="w@h", queues=("q",)), [], with_tasks=False)
    assert "broker" in banner
    assert "s3cret" not in banner
