"""``manage.py tasks`` itself: its exit status, its help, and what it says when it can't go on."""

import subprocess
import sys

import pytest
from django.core.management import call_command

from django_tasks.cli.tables import table
from tests.database.cli.commandline import refusal

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("name", ["inspect", "control", "report"])
def test_commands_to_come_say_so(name):
    """Celery's other words exist, say that they come later, and exit with 2."""
    status, text = refusal(name, "active", "--json")
    assert status == 2
    assert "comes with a later release" in text


def test_exit_status_and_help_in_a_process(child_environment):
    """From a shell: help names every subcommand, and wrong usage exits with 2."""
    command = [sys.executable, "-m", "django", "tasks"]
    shown = subprocess.run([*command, "--help"], env=child_environment, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0
    for word in ("list", "call", "result", "purge", "queues", "status", "dead", "  manage.py tasks list\n"):
        assert word in shown.stdout
    late = subprocess.run([*command, "inspect", "active"], env=child_environment, capture_output=True, text=True, timeout=60)
    assert late.returncode == 2
    assert "later release" in late.stderr


def test_a_reader_that_goes_away_is_no_error(child_environment):
    """`tasks list | head -1` ends quietly."""
    command = [sys.executable, "-m", "django", "tasks", "list"]
    with subprocess.Popen(command, env=child_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 0


@pytest.mark.parametrize("name", ["list", "call", "result", "purge", "queues", "status", "dead"])
def test_every_subcommand_has_help(name, capsys):
    """--help explains each subcommand and every option of it."""
    with pytest.raises(SystemExit):
        call_command("tasks", name, "--help")
    text = capsys.readouterr().out
    assert "--json" in text
    assert len(text) > 200


def test_a_broker_that_can_not_be_used_is_said_in_one_line(settings):
    """A wrong BROKER_URL ends the command with a sentence, not a traceback."""
    settings.DJANGO_TASKS = {"BROKER_URL": "nonsense://x"}
    status, text = refusal("queues")
    assert status == 1
    assert "nonsense" in text


def test_tables_align():
    """Columns are as wide as their widest cell, wide characters count twice, numbers stand on the right."""
    rows = [{"name": "日本", "size": 5, "x": False}, {"name": "a", "size": 1234, "x": True}]
    assert table(rows, ["name", "size", "x"]).splitlines() == ["NAME  SIZE  X", "日本     5  no", "a     1234  yes"]
