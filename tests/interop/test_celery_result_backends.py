"""Results in the stores of Celery's own backends: a real Celery reads ours, we read its, and nothing of it shows elsewhere."""

import os
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path

import celery
import pytest
from celery import Celery, _state
from celery.exceptions import Retry as CelerysRetry
from celery.result import GroupResult

from django_tasks import clock, states
from django_tasks.exceptions import BackendGetMetaError, EncodeError, ImproperlyConfigured, OperationalError, Retry
from django_tasks.messages import new_id
from django_tasks.result_backends import open_result_backend
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.celery import CeleryResultBackend, libraries
from django_tasks.result_backends.encoding import decode, encode_value

pytestmark = pytest.mark.interop

PICKLE = {"RESULT_SERIALIZER": "pickle", "ACCEPT_CONTENT": ["json", "pickle"]}
STORES = ["file://{path}", pytest.param("db+sqlite:///{path}/results.sqlite", marks=pytest.mark.needs("sqlalchemy"))]


def stored(value, status=states.SUCCESS, serializer="json", **fields):
    """Make a meta as a worker stores it."""
    text, content_type, content_encoding = encode_value(value, serializer)
    form = {"result": text, "content_type": content_type, "content_encoding": content_encoding}
    return ResultMeta(task_id=new_id(), status=status, date_done=clock.now(), **form, **fields)


@pytest.fixture(params=STORES)
def url(request, tmp_path):
    return request.param.format(path=tmp_path)


@pytest.fixture
def backend(url):
    backend = open_result_backend(url)
    yield backend
    backend.close()


def celery_app(url, **conf):
    """Make a Celery with results at the same place."""
    app = Celery("theirs", set_as_current=False, backend=url, broker="memory://")
    app.conf.update(result_extended=True, **conf)
    return app


# ---- a real Celery beside it


def test_celery_reads_ours(backend, url):
    """A Celery client must see value, exception, traceback, name, arguments and children of what we store."""
    known = {"name": "shop.tasks.add", "args": "[2,3]", "kwargs": '{"x":1}', "worker": "w@host", "queue": "tea", "retries": 1}
    good = stored({"sum": 5}, children=[[["child", None], None]], **known)
    bad = stored(ValueError("bad", 3), states.FAILURE, traceback="Traceback: ...")
    again = stored(Retry("later", exc=OSError("away")), states.RETRY)
    backend.store([good, bad, again])
    with celery_app(url) as app:
        result = app.AsyncResult(good.task_id)
        assert result.get(timeout=50) == {"sum": 5}
        assert [child.id for child in result.children] == ["child"]
        assert (result.name, result.args, result.kwargs, result.worker, result.queue) == (
            "shop.tasks.add",
            [2, 3],
            {"x": 1},
            "w@host",
            "tea",
        )
        assert abs(result.date_done.timestamp() - good.date_done.timestamp()) < 5
        failed = app.AsyncResult(bad.task_id)
        with pytest.raises(ValueError, match="bad") as caught:
            failed.get(timeout=50)
        assert (caught.value.args, failed.traceback) == (("bad", 3), "Traceback: ...")
        assert isinstance(app.AsyncResult(again.task_id).result, CelerysRetry)


def test_we_read_celerys(backend, url):
    """What a Celery worker stores we must read, with everything that it knows."""
    with celery_app(url) as app:
        request = celery.app.task.Context(
            task="a.b", args=[1], kwargs={"x": 2}, hostname="c@host", retries=2, delivery_info={"routing_key": "tea"}, children=[]
        )
        app.backend.store_result("good", [1, "two"], "SUCCESS", request=request)
        app.backend.store_result("bad", KeyError("k"), "FAILURE", traceback="tb", request=request)
        found = backend.fetch(["good", "bad", "none"])
        assert set(found) == {"good", "bad"}
        good, bad = found["good"], found["bad"]
        assert (good.status, decode(good), good.name, good.args, good.kwargs) == ("SUCCESS", [1, "two"], "a.b", "[1]", '{"x":2}')
        assert (good.worker, good.retries, good.queue) == ("c@host", 2, "tea")
        assert abs(good.date_done - clock.now()) < timedelta(minutes=1)
        assert (type(decode(bad)), decode(bad).args, bad.traceback) == (KeyError, ("k",), "tb")


def test_groups_of_both_sides(backend, url):
    """A group that one side saves must be restored by the other."""
    with celery_app(url) as app:
        backend.store_group("ours", [["ours", None], [[["a", None], None], [["b", None], None]]])
        assert [each.id for each in GroupResult.restore("ours", app=app, backend=app.backend)] == ["a", "b"]
        app.GroupResult("theirs", [app.AsyncResult("c")]).save()
        assert backend.fetch_group("theirs")[1][0][0][0] == "c"


def test_pickled_results_of_both_sides(settings, url):
    """With RESULT_SERIALIZER pickle the whole document is pickled, as Celery wants it; exceptions are read from either form."""
    settings.DJANGO_TASKS = PICKLE
    backend = open_result_backend(url)
    good, bad = stored({1, 2}, serializer="pickle"), stored(ValueError("bad"), states.FAILURE, serializer="pickle")
    plain = stored("kept as JSON")
    backend.store([good, bad, plain])
    found = backend.fetch([good.task_id, bad.task_id, plain.task_id])
    assert decode(found[good.task_id]) == {1, 2}
    assert decode(found[plain.task_id]) == "kept as JSON"
    assert decode(found[bad.task_id]).args == ("bad",)
    with celery_app(url, result_serializer="pickle", accept_content=["json", "pickle"]) as app:
        assert app.AsyncResult(good.task_id).get(timeout=50) == {1, 2}
        assert isinstance(app.AsyncResult(bad.task_id).result, ValueError)
        app.backend.store_result("theirs", KeyError("k"), "FAILURE")
        assert isinstance(decode(backend.fetch(["theirs"])["theirs"]), KeyError)
    backend.close()


def test_another_serializer_is_refused(settings, tmp_path):
    """A pickled document must not be read where ACCEPT_CONTENT says JSON only."""
    with celery_app(f"file://{tmp_path}", result_serializer="pickle", accept_content=["json", "pickle"]) as app:
        app.backend.store_result("theirs", 5, "SUCCESS")
    with pytest.raises(BackendGetMetaError, match="can't be read"):
        open_result_backend(f"file://{tmp_path}").fetch(["theirs"])


# ---- an app that nobody sees


def test_nothing_of_celery_shows(backend, monkeypatch):
    """The private app must neither become the current one nor stand in a list of apps; variables don't redirect it."""
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "file:///nowhere")
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "tests.settings")
    monkeypatch.setenv("CELERY_LOADER", "no.such:Loader")
    current, before = _state._tls.current_app, set(_state._get_active_apps())
    backend.store([stored(5)])
    assert _state._tls.current_app is current
    assert set(_state._get_active_apps()) <= before


def test_settings_are_handed_on(settings, tmp_path):
    """Celery's settings of a backend, and ours that it shares, must reach it; those that nobody set keep Celery's defaults."""
    settings.DJANGO_TASKS = {
        "DATABASE_TABLE_NAMES": {"task": "our_results"},
        "S3_BUCKET": "b",
        "RESULT_EXPIRES": timedelta(hours=1),
        "RESULT_BACKEND_TRANSPORT_OPTIONS": {"global_keyprefix": "shop"},
    }
    conf = libraries.private_app("s3://").conf
    assert (conf.s3_bucket, conf.database_table_names, conf.result_expires) == ("b", {"task": "our_results"}, 3600)
    assert (conf.azureblockblob_container_name, conf.value_set_for("azureblockblob_container_name")) == ("celery", False)
    backend = open_result_backend(f"file://{tmp_path}")
    backend.store([meta := stored(5)])
    assert [path.name for path in tmp_path.iterdir()] == [f"shop_celery-task-meta-{meta.task_id}"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_connects_anew(backend):
    """A child must read and write through connections of its own."""
    backend.store([meta := stored(5)])
    child = os.fork()
    if child == 0:
        made = backend._celery
        backend.store([stored(6)])
        os._exit(0 if meta.task_id in backend.fetch([meta.task_id]) and backend._celery is not made else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert meta.task_id in backend.fetch([meta.task_id])


# ---- what goes wrong


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("mongodb://localhost", "pymongo", "mongodb"),
        ("gs://bucket", "google.cloud.storage", "gcs"),
        ("db+mysql://u:p@h/d", "sqlalchemy", "sqlalchemy"),
    ],
)
def test_a_missing_library_is_named(monkeypatch, url, module, extra):
    """Where a client library isn't installed, the error must say what to install, and show no password."""
    monkeypatch.setattr(libraries, "find_spec", lambda name: None if name == module else find_spec(name))
    with pytest.raises(ImproperlyConfigured, match=rf"needs {module}, .*pip install 'celery\[{extra}\]'") as caught:
        open_result_backend(url)
    assert "u:p@" not in str(caught.value)


def test_every_backend_of_celery_is_known():
    """Each scheme that this Celery has a module for must be offered, and have a row of what to install, if it needs a library."""
    schemes = set(CeleryResultBackend.schemes())
    assert {"file", "db", "mongodb", "elasticsearch", "cassandra", "s3", "gs", "dynamodb", "azureblockblob", "couchdb", "consul"} <= schemes
    ours = {"cache", "db", "redis", "rediss", "sentinel", "rpc", "disabled", "file"}
    assert schemes - ours <= set(libraries.EXTRAS)


@pytest.mark.needs("sqlalchemy")
def test_a_store_that_can_not_be_used(tmp_path):
    """A directory that doesn't exist is a mistake in the settings; a server that is away is not."""
    with pytest.raises(ImproperlyConfigured, match="file:///nowhere/at/all"):
        open_result_backend("file:///nowhere/at/all").fetch(["1"])
    (tmp_path / "results.sqlite").mkdir()
    with pytest.raises(OperationalError, match="Reading results failed at db\\+sqlite"):
        open_result_backend(f"db+sqlite:///{tmp_path}/results.sqlite").fetch(["1"])


class Refusing:
    """A store that takes what is small."""

    limit = 10_000

    def __init__(self, write):
        self.write = write

    def __call__(self, key, value):
        if len(value) > self.limit:
            raise OSError("too large")
        self.write(key, value)


def test_a_result_that_the_store_refuses(tmp_path):
    """A result too large for the store must fail the task by name, not keep the worker trying; a store that is away must raise."""
    backend = open_result_backend(f"file://{tmp_path}")
    celerys = backend._backend()
    celerys.set = Refusing(celerys.set)
    backend.store([large := stored("x" * 100_000, name="n"), small := stored(5)])
    found = backend.fetch([large.task_id, small.task_id])
    assert (found[small.task_id].status, found[large.task_id].status, found[large.task_id].name) == (states.SUCCESS, states.FAILURE, "n")
    assert "100,002 characters was refused" in str(decode(found[large.task_id]))
    celerys.set.limit = 0
    for meta in (stored("x" * 100_000), stored(5)):
        with pytest.raises(OperationalError, match="too large"):
            backend.store([meta])


@pytest.mark.needs("sqlalchemy")
def test_a_value_that_the_serializer_refuses(settings, tmp_path):
    """What RESULT_SERIALIZER can't take is the value's fault, not the store's: nobody tries again."""
    settings.DJANGO_TASKS = {"ACCEPT_CONTENT": ["json", "pickle"]}
    backend = open_result_backend(f"db+sqlite:///{tmp_path}/results.sqlite")
    with pytest.raises(EncodeError):
        backend.store([stored(object, serializer="pickle")])
    backend.close()


@pytest.mark.django_db
def test_old_files_go(settings, tmp_path):
    """Celery's own clean-up must delete what is older than RESULT_EXPIRES, and not be run at every look."""
    settings.DJANGO_TASKS = {"RESULT_EXPIRES": 60}
    backend = open_result_backend(f"file://{tmp_path}")
    backend.store([old := stored(1), recent := stored(2)])
    file = Path(tmp_path) / f"celery-task-meta-{old.task_id}"
    os.utime(file, (1, 1))
    backend.expire(clock.now(), limit=10)
    assert set(backend.fetch([old.task_id, recent.task_id])) == {recent.task_id}
    backend.store([old])
    os.utime(file, (1, 1))
    backend.expire(clock.now(), limit=10)
    assert file.exists()
