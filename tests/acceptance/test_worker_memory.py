"""What the processes of a worker share: memory that they do not write to."""

from pathlib import Path

import psutil
import pytest

from tests.acceptance.conftest import StartWorker, wait_until
from tests.places import Place
from tests.sampleapp import tasks

pytestmark = [pytest.mark.acceptance, pytest.mark.django_db(transaction=True, databases=["default", "postgres"])]

#: Lets each forked process write down at its end what it has imported since the fork.
WATCH = """
import os, sys

_exit, _before = os._exit, set()


def _exit_telling(status):
    if _before:
        with open(os.path.join(os.environ["IMPORTS_TOLD_IN"], str(os.getpid())), "w") as file:
            file.write("\\n".join(sorted(set(sys.modules) - _before)))
    _exit(status)


os.register_at_fork(after_in_child=lambda: _before.update(sys.modules))
os._exit = _exit_telling
"""


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """A folder in which processes tell, by their ids, what they have imported."""
    (tmp_path / "sitecustomize.py").write_text(WATCH)
    folder = tmp_path / "told"
    folder.mkdir()
    return folder


def test_processes_import_nothing_after_the_fork(
    start_worker: StartWorker, place: Place, child_environment: dict[str, str], told: Path
) -> None:
    """What the node or a child imported for itself, it would hold for itself: once a process, and with copies of the pages around it."""
    path = f"{told.parent}:{child_environment.get('PYTHONPATH', '')}"
    worker = start_worker("-c", "2", PYTHONPATH=path, IMPORTS_TOLD_IN=str(told))
    assert [result.get(timeout=50) for result in [tasks.add.delay(number, 1) for number in range(50)]] == list(range(1, 51))
    processes = worker.children()
    assert len(processes) == 3
    worker.stop()
    imported = {int(file.name): file.read_text().split() for file in told.iterdir()}
    assert imported == {pid: [] for pid in processes}, worker.output


def test_the_supervisor_keeps_no_connection(start_worker: StartWorker, place: Place) -> None:
    """It opens what its processes will open, so that they share the code and not the connections."""
    worker = start_worker("-c", "1")
    assert tasks.add.delay(1, 2).get(timeout=50) == 3
    supervisor = psutil.Process(worker.pid)
    wait_until(lambda: len(supervisor.children()) == 2, "the processes")
    assert supervisor.net_connections() == []
    assert [file.path for file in supervisor.open_files() if "sqlite" in file.path] == []
