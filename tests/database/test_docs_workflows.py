"""The examples of the how-to guides do what they say."""

import doctest
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from django_tasks.registry import registry
from django_tasks.testing import worker

HOWTO = Path(__file__).resolve().parents[2] / "docs" / "howto"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def module() -> Iterator[ModuleType]:
    """A module for the tasks of the page, so that they have names; forgotten afterwards."""
    made = sys.modules["tests.howto"] = ModuleType("tests.howto")
    yield made
    del sys.modules["tests.howto"]
    for name in [name for name in registry if name.startswith("tests.howto.")]:
        registry.unregister(name)


def wait_for(true: Callable[[], bool]) -> None:
    """Wait until something is true: what pages call it after a task that nobody can wait for."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        time.sleep(0.01)


@pytest.mark.parametrize(("page", "least"), [("workflows", 40), ("arguments", 8), ("inside-a-task", 12)])
def test_the_examples_of_a_page(module: ModuleType, settings: Any, page: str, least: int) -> None:
    """Every session on the page gives what is printed there, with a worker of its own."""
    settings.DJANGO_TASKS = {**settings.DJANGO_TASKS, "TASK_MODEL_REFERENCES": True}
    path = HOWTO / f"{page}.md"
    text = path.read_text()
    vars(module)["wait_for"] = wait_for
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, vars(module))
    sessions = "\n\n".join(re.findall(r"```pycon\n(.*?)```", text, re.DOTALL))
    examples = doctest.DocTestParser().get_doctest(sessions, vars(module), path.name, str(path), 0)
    # The test's copy of the names is the module's own dictionary: tasks find each other in it.
    examples.globs = vars(module)
    assert len(examples.examples) > least
    said: list[str] = []
    with worker(pool="threads", concurrency=2):
        failed, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples, out=said.append, clear_globs=False)
    assert failed == 0, "".join(said)
