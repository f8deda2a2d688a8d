"""A ``tasks.py`` that can't be imported: the commands name its file and line, and a reloading worker waits until it is mended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.acceptance.conftest import ROOT, WorkerProcess

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True)]

RIGHT = "from django_tasks import shared_task\n\n@shared_task\ndef mended():\n    pass\n"


@pytest.fixture
def project(child_environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a project with an app ``fragile``, in ``tmp_path``."""
    app = tmp_path / "fragile"
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "tasks.py").write_text(RIGHT)
    (tmp_path / "fragilesettings.py").write_text("from tests.settings import *\nINSTALLED_APPS = [*INSTALLED_APPS, 'fragile']\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    # Bytecode is told from its source by whole seconds, which is longer than a test needs to mend it.
    return {**child_environment, "DJANGO_SETTINGS_MODULE": "fragilesettings", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}


def test_commands_name_the_line_that_can_not_be_imported(project: dict[str, str], tmp_path: Path) -> None:
    """It comes first. What runs no task goes on; what runs tasks ends with status 1, and so does ``django.setup()``."""
    (tmp_path / "fragile" / "tasks.py").write_text("import json\n\nfrom json import nothing\n")
    statuses = {"check": 1, "tasks list": 0, "runworker": 1, "runworker --skip-checks": 1, "runbeat": 1, "shell -c 1": 1}
    started = {command: start(command, project, tmp_path) for command in statuses}
    for command, process in started.items():
        output = process.communicate(timeout=50)[0]
        assert process.returncode == statuses[command], output
        if command.startswith("shell"):
            assert "django.setup()" in output
            continue
        first = next(line for line in output.splitlines() if "ImportError" in line)
        assert "fragile/tasks.py:3: ImportError: cannot import name 'nothing'" in first
        assert "django.setup()" not in output
        assert command != "tasks list" or "tests.sampleapp.tasks.add" in output


def start(command: str, environment: dict[str, str], folder: Path) -> "subprocess.Popen[str]":
    """Start a command of the project."""
    arguments = [sys.executable, "-m", "django", *command.split()]
    return subprocess.Popen(arguments, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_a_reloading_worker_outlives_a_syntax_error(project: dict[str, str], tmp_path: Path) -> None:
    """It says where it is, waits, and works again as soon as the file is right; the same for a model that can't be loaded."""
    tasks, package = tmp_path / "fragile" / "tasks.py", tmp_path / "fragile" / "__init__.py"
    tasks.write_text("def broken(:\n")
    command = (sys.executable, "-m", "django", "runworker", "-l", "INFO", "-c", "1", "--reload")
    worker = WorkerProcess(project, command=command)
    try:
        worker.says("fragile/tasks.py:1: SyntaxError")
        worker.says("it starts again when code changes")
        write_until(tasks, RIGHT, worker, " ready.")
        assert "fragile.tasks.mended" in worker.output
        write_until(package, "1 / 0\n", worker, "starts again when it changes")
        ready = worker.output.count(" ready.")
        write_until(package, "", worker, " ready.", ready + 1)
        worker.signal(signal.SIGTERM)
        assert worker.ends() == 0
    finally:
        worker.stop()


def write_until(file: Path, text: str, worker: WorkerProcess, said: str, times: int = 1) -> None:
    """Write a file; once more where the reloader had not looked at it yet, which compares with what it saw at its start."""
    for _ in range(4):
        file.write_text(text)
        end = time.monotonic() + 15
        while time.monotonic() < end:
            if worker.output.count(said) >= times:
                return
            time.sleep(0.05)
    pytest.fail(f"{said!r} was not said {times} times:\n{worker.output}")
