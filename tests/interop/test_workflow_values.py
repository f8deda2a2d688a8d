"""The tables of workflows run by a real Celery: where it says something else than we do, we know it and why."""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest

from tests.places import open_place
from tests.processes import ROOT, WorkerProcess
from tests.workflows.failures import FAILURES
from tests.workflows.inside import INSIDE
from tests.workflows.results import RESULTS
from tests.workflows.shapes import SHAPES
from tests.workflows.table import Case

pytestmark = [
    pytest.mark.interop,
    pytest.mark.acceptance,
    pytest.mark.redis,
    # Celery's own.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::celery.exceptions.CPendingDeprecationWarning"),
]

#: What Celery gives instead; docs/howto/workflows.md says why we differ.
DIFFERENT: dict[str, Any] = {
    # Steps of a chain that is a chord's body are not stamped.
    "stamps of a chord": [[{"mark": "m"}, {"mark": "m"}], {"mark": None}],
    # Members of a group in a group come in another order.
    "a chain of two groups' ends": [5, 7, 6],
    # With a callback, the values are not returned, too.
    "the callback of a groups get": [None, [1, 2]],
}

#: What Celery never ends.
WITHOUT_END = {
    # The group behind a failed step stays PENDING.
    "a failure before a group",
    # The body of the outer chord stays PENDING; get() has the inner one's failure from the parents.
    "a failure in a chord in a chord",
}


@pytest.fixture(scope="module")
def celery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A Celery worker and a client before it, on Redis."""
    with open_place("redis") as place, pytest.MonkeyPatch.context() as patch:
        prefixed = json.dumps(place.options["BROKER_TRANSPORT_OPTIONS"])
        names = {"BROKER_URL": place.broker_url, "RESULT_BACKEND": place.result_backend, "QUEUE": "celery"}
        for name, value in {**names, "TRANSPORT_OPTIONS": prefixed, "RESULT_OPTIONS": prefixed}.items():
            patch.setenv(f"FLEET_{name}", value)
        patch.setenv("EFFECTS", str(tmp_path_factory.mktemp("celery") / "effects"))
        from tests.interop import celery_workflows

        worker = _worker()
        try:
            yield celery_workflows.engine
        finally:
            # A warm shutdown of Celery's takes ten seconds, and is not what is tried here.
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
            worker.stop()
            celery_workflows.app.close()


def _worker() -> WorkerProcess:
    quiet = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    command = [sys.executable, "-m", "celery", "-A", "tests.interop.celery_workflows", "worker", "-l", "INFO", "-c", "2", *quiet]
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    worker = WorkerProcess({**environment, "PYTHONPATH": str(ROOT)}, command=command)
    worker.says(" ready.")
    return worker


COMPARED = [case for case in (*SHAPES, *FAILURES, *INSIDE, *RESULTS) if case.name not in WITHOUT_END]


@pytest.mark.parametrize("case", COMPARED, ids=lambda case: case.name)
def test_a_workflow_run_by_celery(celery: SimpleNamespace, case: Case) -> None:
    """Celery gives what we give, or what is known to differ."""
    assert case.outcome(celery) == DIFFERENT.get(case.name, case.expected)
