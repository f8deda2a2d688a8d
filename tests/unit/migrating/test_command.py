"""``manage.py tasks migrate_from_celery``: what it finds in a whole project, and how it tells."""

import json
import re

import pytest
from django.core.management import CommandError, call_command

from django_tasks.cli import migrating as migrating_cli
from django_tasks.operations.migrating import check_project
from tests.celeryproject import FILES
from tests.unit.migrating.projects import CHANGE, COUNTS, LOOK, findings, run, write

EXPECTED = [
    ("Procfile", 2, CHANGE, "python manage.py runworker -Q default,mail -c 4 -l info; --without-gossip: not needed"),
    ("Procfile", 3, CHANGE, "python manage.py runbeat; -S django: not needed"),
    ("README.md", 3, LOOK, "python manage.py runworker"),
    ("compose/start", 3, CHANGE, "python manage.py runworker -l INFO"),
    ("deploy/supervisor.conf", 2, CHANGE, "python manage.py runbeat -l info --max-interval 5"),
    ("deploy/worker.service", 2, CHANGE, "python manage.py runworker --pidfile /run/celery.pid --max-tasks-per-child 100; --uid www:"),
    ("docker-compose.yml", 3, CHANGE, "runworker --loglevel CRITICAL --concurrency 8 -P threads"),
    ("docker-compose.yml", 6, CHANGE, "python manage.py runworker -n mail@%h"),
    ("docker-compose.yml", 14, CHANGE, "python manage.py runworker -l INFO"),
    ("docker-compose.yml", 18, CHANGE, "tasks status"),
    ("proj/__init__.py", 1, CHANGE, "remove the line"),
    ("proj/celery.py", 3, CHANGE, "from django_tasks import signals"),
    ("proj/celery.py", 3, CHANGE, "`from django_tasks import app`"),
    ("proj/celery.py", 4, CHANGE, "no counterpart"),
    ("proj/celery.py", 8, CHANGE, "from django_tasks import app; or remove the module"),
    ("proj/celery.py", 9, LOOK, "does nothing here"),
    ("proj/celery.py", 10, LOOK, "does nothing here"),
    ("proj/celery.py", 11, CHANGE, "move it to the settings, as CELERY_TASK_TRACK_STARTED"),
    ("proj/celery.py", 12, CHANGE, "move it to the settings, as CELERY_TASK_ROUTES"),
    ("proj/celery.py", 12, CHANGE, "raises an error here"),
    ("proj/celery.py", 19, CHANGE, "bootsteps are parts of Celery's worker"),
    ("proj/celery.py", 22, COUNTS, "@shared_task is the same"),
    ("proj/celery.py", 29, CHANGE, "comes with a later release"),
    ("proj/settings.py", 1, CHANGE, '"django_tasks" behind "django_celery_beat"'),
    ("proj/settings.py", 1, LOOK, "the default queue is named default here"),
    ("proj/settings.py", 3, LOOK, "not needed: results are rows"),
    ("proj/settings.py", 4, COUNTS, "stays"),
    ("proj/settings.py", 7, COUNTS, "Where messages wait"),
    ("proj/settings.py", 8, COUNTS, "the same as db://default"),
    ("proj/settings.py", 9, COUNTS, "our default"),
    ("proj/settings.py", 10, LOOK, "plain data"),
    ("proj/settings.py", 11, LOOK, "plain data"),
    ("proj/settings.py", 12, LOOK, "no effect"),
    ("proj/settings.py", 13, LOOK, "visibility_timeout need not outlast tasks"),
    ("proj/settings.py", 14, COUNTS, "monitors"),
    ("proj/settings.py", 15, CHANGE, "'gevent' is not possible here: 'prefork'"),
    ("proj/settings.py", 16, CHANGE, "CELERY_WORKER_CONCURRENCY"),
    ("proj/settings.py", 17, CHANGE, "of type str"),
    ("proj/settings.py", 18, LOOK, "counts for nothing here"),
    ("proj/settings.py", 19, LOOK, "no effect"),
    ("proj/settings.py", 20, LOOK, '"django_tasks": our loggers'),
    ("pytest.ini", 2, CHANGE, "our pytest plugin"),
    ("requirements/base.txt", 2, LOOK, "django-tasks-engine"),
    ("requirements/base.txt", 4, LOOK, "not needed"),
    ("requirements/base.txt", 5, LOOK, "events"),
    ("shop/broken.py", 1, CHANGE, "from django_tasks import group"),
    ("shop/broken.py", 2, LOOK, "only its imports were looked at"),
    ("shop/migrations/0002_tasks.py", 1, CHANGE, "from django_tasks import shared_task"),
    ("shop/tasks.py", 1, CHANGE, "import django_tasks"),
    ("shop/tasks.py", 2, CHANGE, "from django_tasks import chain, shared_task"),
    ("shop/tasks.py", 5, CHANGE, "tasks status"),
    ("shop/tasks.py", 7, CHANGE, "from django_tasks import app as capp"),
    (
        "shop/tasks.py",
        8,
        CHANGE,
        "from django_tasks.exceptions import MaxRetriesExceededError, SoftTimeLimitExceeded, TaskError as CeleryError",
    ),
    ("shop/tasks.py", 9, CHANGE, "from django_tasks.result import AsyncResult"),
    ("shop/tasks.py", 10, CHANGE, "from django_tasks.schedules import crontab"),
    ("shop/tasks.py", 11, CHANGE, "from django_tasks.log import get_task_logger"),
    ("shop/tasks.py", 12, CHANGE, "no counterpart is known"),
    ("shop/tasks.py", 13, CHANGE, "from django_tasks.models import TaskResult"),
    ("shop/tasks.py", 15, CHANGE, "from django_tasks import app as celery_app"),
    ("shop/tasks.py", 16, CHANGE, "from django_tasks import app"),
    ("shop/tasks.py", 21, CHANGE, "django_tasks.Task"),
    ("shop/tasks.py", 21, COUNTS, "works with the Task of django_tasks"),
    ("shop/tasks.py", 22, LOOK, "not needed"),
    ("shop/tasks.py", 24, CHANGE, "never called here"),
    ("shop/tasks.py", 31, CHANGE, "django_tasks.shared_task"),
    ("shop/tasks.py", 35, LOOK, "plain data"),
    ("shop/tasks.py", 39, COUNTS, "@shared_task is the same"),
    ("shop/tasks.py", 44, CHANGE, "from django_tasks import states"),
    ("shop/tasks.py", 45, CHANGE, "comes with a later release"),
    ("shop/tasks.py", 45, CHANGE, "django_tasks.states.SUCCESS"),
    ("shop/tests.py", 3, CHANGE, "from django_tasks.testing import start_worker"),
    ("shop/tests.py", 6, CHANGE, "our pytest plugin"),
    ("shop/tests.py", 9, COUNTS, "at once"),
    ("shop/tests.py", 10, LOOK, "a path into Celery"),
]


def test_every_place_of_a_project_is_found_and_nothing_else(project):
    """Each finding, with line, severity and what to write; virtualenvs, and migrations without Celery, are passed over."""
    found = check_project([project]).findings
    places = sorted((one.path, one.line, one.severity.value) for one in found)
    assert places == sorted((path, line, severity.value) for path, line, severity, _ in EXPECTED)
    for path, line, severity, instead in EXPECTED:
        assert any((one.path, one.line, one.severity) == (path, line, severity) and instead in one.instead for one in found), (path, line)


def test_the_command_lists_the_findings_and_fails_while_something_must_change(project):
    """Exit status 1; each line says place, severity, what stands there, and what to write."""
    status, text = run("--check", ".")
    assert status == 1
    assert (
        "  shop/tasks.py:9: must change: from celery.result import AsyncResult\n      from django_tasks.result import AsyncResult\n" in text
    )
    assert re.search(r"\d+ files read: \d+ must change, \d+ look at it, \d+ counts as it is", text)


def test_a_password_is_not_told(project):
    """Reports are sent around: no login of an address is shown."""
    (project / "start.sh").write_text("celery -A p -b redis://:secret@h worker\n")
    (project / "shop/start.py").write_text("x = 'celery -A p -b redis://me:secret@h worker'\n")
    status, text = run("--json", ".")
    assert status == 1
    assert "start.py" in text
    assert "CELERY_BROKER_URL" in text
    assert "secret" not in text


def test_json_is_one_document(project):
    """--json prints a list of objects with the five fields."""
    _, text = run("--check", "--json", "shop", "Procfile")
    found = json.loads(text)
    assert {tuple(one) for one in found} == {("path", "line", "what", "instead", "severity")}
    assert {one["path"] for one in found} == {
        "Procfile",
        "shop/tasks.py",
        "shop/tests.py",
        "shop/broken.py",
        "shop/migrations/0002_tasks.py",
    }


def test_a_project_that_has_moved_is_fine(tmp_path):
    """Exit status 0 when nothing must change; the project's celery.py may stay as a place that hands on our app."""
    moved = {
        "proj/__init__.py": "from .celery import app as celery_app\n",
        "proj/celery.py": "from django_tasks import app\n\napp.autodiscover_tasks()\n",
        "proj/settings.py": "INSTALLED_APPS = ['django_celery_beat', 'django_tasks']\nCELERY_BROKER_URL = 'redis://'\n",
        "shop/tasks.py": "from django_tasks import shared_task\nfrom proj import celery_app\n\n\n@celery_app.task\ndef one(): ...\n",
    }
    status, text = run(str(write(tmp_path, moved)))
    assert status == 0
    assert "0 must change" in text


def test_a_path_that_is_not_there_is_wrong_usage(tmp_path):
    """Exit status 2, and the path is named."""
    with pytest.raises(CommandError, match=r"there is no .*nowhere") as caught:
        call_command("tasks", "migrate_from_celery", str(tmp_path / "nowhere"))
    assert caught.value.returncode == 2


def test_nothing_of_the_project_runs(tmp_path):
    """Its modules are read, not imported: neither settings nor tasks leave a trace."""
    trace = tmp_path / "trace"
    code = f"import celery\nopen({str(trace)!r}, 'w')\nraise SystemExit(9)\n"
    found = findings(tmp_path / "project", {"proj/settings.py": code, "proj/celery.py": code, "conftest.py": code})
    assert len(found) == 3
    assert not trace.exists()


def test_files_that_can_not_be_read_as_they_should_are_findings(tmp_path):
    """Broken syntax, zero bytes, wrong encodings and texts in other encodings end nothing."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/zero.py").write_bytes(b"import celery\0")
    (tmp_path / "shop/coding.py").write_bytes(b"# coding: no-such-coding\nimport celery\n")
    (tmp_path / "shop/bytes.py").write_bytes(b"import celery\nx = '\xff'\n")
    (tmp_path / "shop/latin.py").write_bytes("# coding: latin-1\nfrom celery import group  # ä\n".encode("latin-1"))
    (tmp_path / "shop/deep.py").write_text("import celery\nx = " + "(" * 300 + ")" * 300)
    (tmp_path / "shop/other.py").write_text("def (:\n")
    (tmp_path / "latin.sh").write_bytes(b"# \xe4\ncelery -A p worker\n")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    report = check_project([tmp_path])
    problems = {one.path.rpartition("/")[2] for one in report.findings if "can't parse it" in one.what}
    assert problems == {"zero.py", "deep.py"}
    read = {one.path.rpartition("/")[2] for one in report.findings if one.severity is CHANGE}
    assert read == {"coding.py", "bytes.py", "deep.py", "latin.py", "latin.sh"}


def test_the_patch_changes_import_lines_and_leaves_the_rest(project):
    """--diff prints a patch; what has no counterpart stays an import of Celery's, comments and indentation stay."""
    status, patch = run("--diff", "shop/tasks.py", "proj/celery.py")
    assert status == 1
    added = [line[1:] for line in patch.splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert "from django_tasks import app as capp  # the app" in added
    assert "from django_tasks.exceptions import MaxRetriesExceededError, SoftTimeLimitExceeded, TaskError as CeleryError" in added
    assert {"from django_tasks import chain, shared_task", "from celery import bugreport"} <= set(added)
    assert not any("TYPE_CHECKING" in line for line in added)
    assert (project / "shop/tasks.py").read_text() == FILES["shop/tasks.py"]


def test_by_default_the_project_is_read(project, settings, monkeypatch):
    """Around BASE_DIR: the current folder if it is the top of the project, else BASE_DIR."""
    settings.BASE_DIR = project / "proj"
    assert migrating_cli.project_folders() == [project]
    monkeypatch.chdir("/")
    assert migrating_cli.project_folders()[0] == project / "proj"
    monkeypatch.chdir(project)
    status, text = run()
    assert status == 1
    assert "shop/tasks.py:2" in text
