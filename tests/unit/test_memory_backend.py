"""Results in memory, what disabled results say, and how backends are opened."""

import os
import threading
from datetime import timedelta
from importlib.metadata import EntryPoint

import pytest
from django.test import override_settings

from django_tasks import clock, opening, result_backends, states
from django_tasks.exceptions import ImproperlyConfigured, OperationalError
from django_tasks.result_backends import open_result_backend
from django_tasks.result_backends.backend import NewChord, ResultMeta
from django_tasks.result_backends.cache import CacheResultBackend
from django_tasks.result_backends.disabled import DisabledResultBackend
from django_tasks.result_backends.memory import MemoryResultBackend
from django_tasks.result_backends.merging import folded, merged


def meta(task_id="1", status=states.SUCCESS, **fields):
    return ResultMeta(task_id=task_id, status=status, result="5", **fields)


@pytest.fixture
def backend():
    backend = MemoryResultBackend("unit")
    yield backend
    backend.clear()


def test_backends_of_one_name_share_results(backend):
    """What one backend stores, another one of the same name must read, and one of another name must not."""
    backend.store([meta()])
    assert set(MemoryResultBackend("unit").fetch(["1"])) == {"1"}
    assert MemoryResultBackend("other").fetch(["1"]) == {}
    backend.clear()
    assert MemoryResultBackend("unit").fetch(["1"]) == {}


def test_a_waiter_wakes_at_once(backend):
    """A waiting reader must be woken by the write, not by a timer."""
    waiting = threading.Event()
    found = []

    def wait():
        waiting.set()
        found.extend(backend.wait(["1"], 20))
        found.append(clock.monotonic())

    thread = threading.Thread(target=wait)
    thread.start()
    assert waiting.wait(5)
    backend.store([meta("2")])
    stored = clock.monotonic()
    backend.store([meta()])
    thread.join(5)
    assert found[0].task_id == "1"
    assert found[1] - stored < 1


def test_old_chords_go(backend):
    """Finished chords must be remembered until they are old, unfinished ones for good."""
    backend.open_chords([NewChord("done", 1, {})])
    backend.open_chords([NewChord("waiting", 2, {})])
    backend.count_chord_parts([meta(group_id="done"), meta(group_id="waiting")])
    backend.close_chords(["done"])
    backend.expire(clock.now() + timedelta(days=1), limit=10)
    backend.open_chords([NewChord("done", 1, {})])
    assert len(backend.count_chord_parts([meta(group_id="done"), meta("2", group_id="waiting")])) == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_starts_empty(backend):
    """A child must not wait for a lock that a thread of its parent held, nor see the parent's results."""
    backend.store([meta()])
    with backend._store.changed:
        child = os.fork()
        if child == 0:
            os._exit(len(backend.fetch(["1"])))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(backend.fetch(["1"])) == 1


# ---- the rule for writes


def test_the_rule_for_writes():
    """What a write knows must replace what is kept, and what it doesn't know must not."""
    start = clock.now()
    held = meta(status=states.STARTED, name="n", args="[]", date_started=start, retries=2, children=[1])
    now = merged(held, meta(status=states.FAILURE, date_started=start + timedelta(1), traceback="tb", children=[]))
    assert (now.status, now.name, now.args, now.date_started) == (states.FAILURE, "n", "[]", start)
    assert (now.retries, now.children, now.traceback) == (2, [], "tb")
    assert merged(now, meta(status="PROGRESS")) is now
    assert merged(None, held) is held


def test_folding_keeps_the_order():
    """A batch in which no task comes twice must stay as it is."""
    batch = [meta("2"), meta("1"), meta("3", states.STARTED)]
    assert folded(batch) == batch


# ---- disabled


def test_disabled_results_say_so():
    """Without results storing must do nothing, and reading must name the setting that turns them on."""
    backend = open_result_backend(None)
    assert isinstance(backend, DisabledResultBackend)
    assert not backend.reads
    backend.store([meta()])
    backend.forget(["1"])
    backend.forget_group("1")
    assert backend.count_chord_parts([meta(group_id="1")]) == []
    assert backend.expire(clock.now(), limit=1) == 0
    refused = [
        lambda: backend.fetch(["1"]),
        lambda: list(backend.wait(["1"], 0)),
        lambda: backend.store_group("1", []),
        lambda: backend.fetch_group("1"),
        lambda: backend.open_chords([NewChord("1", 1, {})]),
        lambda: backend.grow_chord("1", 1),
    ]
    for call in refused:
        with pytest.raises(NotImplementedError, match="RESULT_BACKEND"):
            call()


# ---- the cache


def test_an_unknown_cache():
    """A cache that the settings don't have must be named, with those that there are."""
    with pytest.raises(ImproperlyConfigured, match="CACHES has no 'nowhere'; there are default"):
        open_result_backend("cache://nowhere")


class Away:
    """A cache whose server can't be reached."""

    def __getattr__(self, name):
        def fail(*args, **kwargs):
            raise ConnectionError("refused")

        return fail


def test_a_cache_that_is_away(monkeypatch):
    """Whatever a cache's client raises must become OperationalError."""
    backend = CacheResultBackend()
    monkeypatch.setattr("django_tasks.result_backends.cache.caches", {"default": Away()})
    for call in (
        lambda: backend.store([meta()]),
        lambda: backend.fetch(["1"]),
        lambda: backend.forget(["1"]),
        lambda: backend.grow_chord("1", 1),
    ):
        with pytest.raises(OperationalError, match="refused"):
            call()


def test_chords_need_a_cache_that_counts(settings, tmp_path):
    """A cache that counts by reading and writing would lose parts, so chords must be refused there before they are sent."""
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": str(tmp_path)}}
    backend = CacheResultBackend()
    backend.store([meta()])
    assert backend.fetch(["1"])["1"].result == "5"
    with pytest.raises(ImproperlyConfigured, match="FileBasedCache can't count in one step"):
        backend.open_chords([NewChord("1", 2, {})])


# ---- opening


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("db://default", "DatabaseResultBackend"),
        ("db://", "DatabaseResultBackend"),
        ("django-db", "DatabaseResultBackend"),
        ("cache://default", "CacheResultBackend"),
        ("django-cache", "CacheResultBackend"),
        ("memory://", "MemoryResultBackend"),
        ("disabled://", "DisabledResultBackend"),
        ("file:///tmp", "CeleryResultBackend"),
        pytest.param("db+sqlite:///results.sqlite", "CeleryResultBackend", marks=pytest.mark.needs("sqlalchemy")),
        ("cache+memory://", "CeleryResultBackend"),
        ("redis://nowhere.invalid:6379/0", "RedisResultBackend"),
        ("rediss://nowhere.invalid/1?ssl_cert_reqs=CERT_NONE", "RedisResultBackend"),
        ("redis+socket:///nowhere/redis.sock?virtual_host=2", "RedisResultBackend"),
        ("sentinel://nowhere.invalid:26379/0?master_name=m;sentinel://elsewhere.invalid:26379/0", "RedisResultBackend"),
        ("disabled", "DisabledResultBackend"),
        (None, "DisabledResultBackend"),
    ],
)
def test_what_urls_open(url, name):
    """Every scheme of the contract must open its backend, and connect to nothing yet."""
    assert type(open_result_backend(url)).__name__ == name


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("rediz://localhost", "did you mean redis"),
        ("memroy://", "did you mean memory://"),
        ("zzzz://", "there are .*cache://.* db://.* disabled://.* memory://.* redis://"),
        ("no url", "is no URL"),
        ("mongdb://localhost", "did you mean mongodb://"),
        ("db://defualt", "did you mean db://default"),
    ],
)
def test_what_urls_do_not_open(url, words):
    """Another scheme must be refused with what there is instead."""
    with pytest.raises(ImproperlyConfigured, match=words):
        open_result_backend(url)


def test_entry_points(monkeypatch):
    """A backend of another package must be found by its entry point."""
    entry = EntryPoint("my", "django_tasks.result_backends.memory:MemoryResultBackend.from_url", "django_tasks.result_backends")
    monkeypatch.setattr(opening, "entry_points", lambda group: [entry] if group == entry.group else [])
    assert isinstance(open_result_backend("my://x"), MemoryResultBackend)


def test_the_current_backend_follows_the_setting():
    """``current()`` must be opened once, and again when the setting changes or after ``reset()``."""
    with override_settings(DJANGO_TASKS={"RESULT_BACKEND": "memory://one"}):
        one = result_backends.current()
        assert result_backends.current() is one
        with override_settings(DJANGO_TASKS={"RESULT_BACKEND": "disabled://"}):
            assert isinstance(result_backends.current(), DisabledResultBackend)
        result_backends.reset()
        assert result_backends.current() is not one
