"""What a database lacks is told from an outage, before anything starts."""

import subprocess
import sys
from typing import Any

import pytest
from django.db import Error as DatabaseError
from django.db import connections

from django_tasks.dbaccess import in_words, reaching, refusal_of
from django_tasks.exceptions import OperationalError, ServerRefusedError
from django_tasks.readiness import check_databases
from tests.processes import ROOT

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])


def failing(alias: str, **changes: Any) -> DatabaseError:
    """The error of a connection of this kind with other settings."""
    usual = connections[alias]
    wrong = type(usual)({**usual.settings_dict, **changes}, alias)
    with pytest.raises(DatabaseError) as caught:
        wrong.ensure_connection()
    return caught.value


@pytest.mark.parametrize(
    ("kind", "changes", "refused", "words"),
    [
        ("default", {"NAME": "/nowhere/db.sqlite3"}, True, "NAME"),
        pytest.param("postgres", {"NAME": "nosuch"}, True, "NAME", marks=pytest.mark.postgres),
        pytest.param("postgres", {"USER": "nosuch"}, True, "USER and PASSWORD", marks=pytest.mark.postgres),
        pytest.param("postgres", {"PORT": "1"}, False, "refused", marks=pytest.mark.postgres),
        pytest.param("postgres", {"HOST": "nosuch.invalid"}, False, "nosuch.invalid", marks=pytest.mark.postgres),
        pytest.param("mysql", {"NAME": "nosuch"}, True, "NAME", marks=pytest.mark.mysql),
        pytest.param("mysql", {"PASSWORD": "wrong", "USER": "root"}, True, "USER and PASSWORD", marks=pytest.mark.mysql),
        pytest.param("mysql", {"HOST": "127.0.0.1", "PORT": "1"}, False, "connect", marks=pytest.mark.mysql),
    ],
)
def test_what_a_server_refuses_is_told_from_one_that_is_away(kind: str, changes: dict[str, str], refused: bool, words: str) -> None:
    """An unknown database and wrong credentials stay so; a server that doesn't answer may come."""
    error = failing(kind, **changes)
    assert bool(refusal_of(error)) == refused
    assert words in in_words(error)
    assert "\n" not in in_words(error)


def test_a_missing_table_is_named_without_the_statement(alias: str) -> None:
    """One line, with what mends it; a statement that is wrong in another way is no refusal."""
    with pytest.raises(ServerRefusedError, match=r"nosuch.* Run .manage.py migrate") as caught, reaching(alias, "Looking") as connection:
        connection.cursor().execute("SELECT 1 FROM nosuch")
    assert "SELECT" not in str(caught.value)
    with pytest.raises(OperationalError) as caught, reaching(alias, "Looking") as connection:
        connection.cursor().execute("SELEC 1")
    assert type(caught.value) is OperationalError


def test_a_database_with_all_its_tables_is_ready(alias: str, settings: Any) -> None:
    """Wherever messages and results are; the schedules' tables are looked at, too."""
    settings.DJANGO_TASKS = {"BROKER_URL": f"db://{alias}", "RESULT_BACKEND": f"db://{alias}"}
    check_databases(beat=True)


@pytest.mark.acceptance
def test_every_command_ends_at_once_where_nothing_was_migrated(child_environment: dict[str, str], tmp_path: Any) -> None:
    """One sentence that says what to do, no traceback, no SQL, exit status 1."""
    environment = {**child_environment, "SQLITE_NAME": str(tmp_path / "empty.sqlite3")}
    commands = (["runworker", "-c", "1"], ["runworker", "-P", "solo"], ["runbeat"], ["tasks", "status"], ["tasks", "dead"])
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "django", *command], cwd=ROOT, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        for command in commands
    ]
    for process in started:
        _, said = process.communicate(timeout=50)
        [line] = said.decode().splitlines()
        assert process.returncode == 1
        assert line.endswith("Run 'manage.py migrate' on it."), line
