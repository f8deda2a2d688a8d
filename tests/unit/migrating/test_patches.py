"""The patch of ``--diff`` can be applied, however a file's lines end; and what an alias of Celery's is used for is looked at."""

import shutil
import subprocess

import pytest

from tests.unit.migrating.projects import CHANGE, findings, run, said

BEFORE, AFTER = "from celery import shared_task, bugreport\n", "from django_tasks import shared_task\nfrom celery import bugreport\n"
FILES = {
    "a form feed": "import os\n\f\nx = 1\n{}y = 2\n",
    "a line separator in a text": "x = '\u2028'\n{}y = 2\n",
    "other separators in a text": "x = '''\v\x1c\x85'''\n{}y = 2\n",
    "the first line": "{}y = 2\n",
    "the last line, which doesn't end": "x = 1\n{}",
    "a last line that doesn't end": "{}x = 1\ny = 2",
}


@pytest.mark.skipif(shutil.which("git") is None, reason="git applies the patch")
@pytest.mark.parametrize("ending", ["\n", "\r\n"], ids=["LF", "CRLF"])
@pytest.mark.parametrize("name", FILES)
def test_the_patch_can_be_applied(tmp_path, monkeypatch, name, ending):
    """It changes the line that was meant, and no other."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "some.py"
    unfinished = FILES[name].endswith("{}")

    def written(lines):
        text = FILES[name].format(lines.removesuffix("\n") if unfinished else lines)
        return text.replace("\n", ending).encode()

    file.write_bytes(written(BEFORE))
    _, patch = run("--diff", "some.py")
    subprocess.run(["git", "apply", "--whitespace=nowarn"], input=patch.encode(), check=True, cwd=tmp_path)
    assert file.read_bytes() == written(AFTER)


@pytest.mark.parametrize(
    ("line", "what"),
    [("c.current_app.send_task('x')", "c.current_app.send_task"), ("c.bugreport()", "c.bugreport")],
)
def test_an_alias_of_celery(tmp_path, line, what):
    """The import is one line to change; so is each name that our module doesn't have."""
    found = findings(tmp_path, {"some.py": f"import celery as c\n\n@c.shared_task\ndef task():\n    {line}\n"})
    assert [(number, severity, name) for number, severity, name, _ in found] == [
        (1, CHANGE, "import celery as c"),
        (5, CHANGE, what),
    ]


def test_an_alias_means_something_else_in_a_function_that_has_a_variable_of_its_name(tmp_path):
    """As a parameter may be called."""
    assert len(said(tmp_path, "import celery as c\n\ndef area(c):\n    return c.width\n")) == 1


@pytest.mark.parametrize("inner", ["def app(): ...", "class app: ...", "async def app(): ..."])
def test_a_function_within_that_is_called_app_is_no_app(tmp_path, inner):
    """Nor is a class."""
    text = f"from django_tasks import app\n\ndef test():\n    {inner}\n    app.amqp\n"
    assert said(tmp_path, text) == []
