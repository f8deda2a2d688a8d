"""``python -m django_tasks migrate_from_celery``: a project is read before anything of it is changed."""

import json
import os
import subprocess
import sys


def run(folder, *arguments):
    """Run the module in a folder that is no project of ours."""
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    command = [sys.executable, "-m", "django_tasks", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_a_project_without_the_package_is_read(tmp_path):
    """It needs no settings, and ends with the status of the command."""
    for name in ("settings", "celery", "kombu", "django_celery_beat"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('nobody runs this')\n")
    (tmp_path / "tasks.py").write_text("from celery import shared_task\n")
    done = run(tmp_path, "migrate_from_celery", "--check", "--json", ".")
    assert done.returncode == 1, done.stderr
    assert [one["instead"] for one in json.loads(done.stdout)] == ["from django_tasks import shared_task"]
    (tmp_path / "tasks.py").write_text("from django_tasks import shared_task\n")
    assert run(tmp_path, "migrate_from_celery", "--check", ".").returncode == 0


def test_everything_else_belongs_to_a_project(tmp_path):
    """Other commands are refused with where they are."""
    done = run(tmp_path, "status")
    assert done.returncode == 1
    assert "python manage.py tasks" in done.stderr
