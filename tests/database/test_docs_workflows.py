"""The examples of the how-to on workflows do what it says."""

import doctest
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from django_tasks.registry import registry
from django_tasks.testing import worker

PAGE = Path(__file__).resolve().parents[2] / "docs" / "howto" / "workflows.md"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def module() -> Iterator[ModuleType]:
    """A module for the tasks of the page, so that they have names; forgotten afterwards."""
    made = sys.modules["tests.howto"] = ModuleType("tests.howto")
    yield made
    del sys.modules["tests.howto"]
    for name in [name for name in registry if name.startswith("tests.howto.")]:
        registry.unregister(name)


def test_the_examples_of_the_page(module: ModuleType) -> None:
    """Every session on the page gives what is printed there, with a worker of its own."""
    text = PAGE.read_text()
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(block, vars(module))
    sessions = "\n\n".join(re.findall(r"```pycon\n(.*?)```", text, re.DOTALL))
    examples = doctest.DocTestParser().get_doctest(sessions, vars(module), PAGE.name, str(PAGE), 0)
    # The test's copy of the names is the module's own dictionary: tasks find each other in it.
    examples.globs = vars(module)
    assert len(examples.examples) > 40
    said: list[str] = []
    with worker(pool="threads", concurrency=2):
        failed, _ = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples, out=said.append, clear_globs=False)
    assert failed == 0, "".join(said)
