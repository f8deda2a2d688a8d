"""The page about Flask, FastAPI and plain programs: its modules are written to a folder and run as the page says."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from tests.places import redis_url
from tests.processes import ROOT, WorkerProcess

PAGE = ROOT / "docs" / "howto" / "without-a-project.md"
#: As much of the two frameworks as the page's modules use.
FRAMEWORK = """
class {name}:
    def __init__(self, *args): self.views = {{}}
    def post(self, path): return lambda view: self.views.setdefault("post", view)
    def get(self, path): return lambda view: self.views.setdefault("get", view)
"""
USE_WEB = "import web; id = web.web.views['post'](2026)['id']; web.queue.AsyncResult(id).get(timeout=30); print(web.web.views['get'](id))"
USE_API = """
import asyncio, api
async def use(views):
    print(await views["get"]((await views["post"](2026))["id"]))
asyncio.run(use(api.api.views))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The modules of the page, and one that stands for each framework."""
    for name, text in re.findall(r"```python\n# (\w+\.py).*?\n(.*?)```", PAGE.read_text(), re.DOTALL):
        (tmp_path / name).write_text(text)
    for name in ("Flask", "FastAPI"):
        (tmp_path / f"{name.lower()}.py").write_text(FRAMEWORK.format(name=name))
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    return {**kept, "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment(folder), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def start_worker() -> Iterator[Callable[[Path], WorkerProcess]]:
    """Start the worker of the page's module; it ends with the test."""
    started: list[WorkerProcess] = []

    def start(folder: Path) -> WorkerProcess:
        run(folder, "jobs.py", "migrate")
        command = (sys.executable, str(folder / "jobs.py"), "runworker")
        started.append(WorkerProcess(environment(folder), "-c", "1", "-l", "INFO", command=command))
        started[0].says("ready")
        return started[0]

    yield start
    for worker in started:
        worker.stop()


def test_one_module_is_set_up_tasks_and_commands(folder, start_worker):
    """It migrates, works and calls; a program and coroutines of a web application import it, and the names are the same."""
    worker = start_worker(folder)
    assert "the report of 2026" in run(folder, "jobs.py", "tasks", "call", "jobs.report", "-a", "[2026]", "--wait", "30")
    assert run(folder, "-c", f"import program\n{USE_API}") == "the report of 2026\n{'report': 'the report of 2026'}\n"
    worker.signal(signal.SIGTERM)
    assert worker.ends() == 0


@pytest.mark.redis
def test_celerys_client_calls_our_worker(folder, start_worker):
    """From a web application that has nothing of Django."""
    url, queue = redis_url(), f"howto-{uuid4().hex}"
    orders, jobs = folder / "orders.py", folder / "jobs.py"
    orders.write_text(orders.read_text().replace("redis://localhost:6379/0", url).replace('"default"', f'"{queue}"'))
    ours = f'DJANGO_TASKS={{"BROKER_URL": "{url}", "RESULT_BACKEND": "{url}", "TASK_DEFAULT_QUEUE": "{queue}", "RESULT_EXPIRES": 60, '
    jobs.write_text(jobs.read_text().replace("DJANGO_TASKS={", ours))
    start_worker(folder)
    try:
        assert run(folder, "-c", USE_WEB) == "{'state': 'SUCCESS', 'report': 'the report of 2026'}\n"
    finally:
        with closing(redis.Redis.from_url(url)) as client:
            for key in client.scan_iter(f"*{queue}*"):
                client.delete(key)
