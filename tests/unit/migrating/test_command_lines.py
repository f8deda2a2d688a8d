"""Celery's command lines, wherever they stand, and ours in their place."""

import pytest

from django_tasks.operations.migrating.commandlines import translate
from tests.unit.migrating.projects import findings


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("celery worker -A proj -c4 --autoscale=10,3 && echo done", "python manage.py runworker -c 4 --autoscale 10,3"),
        ("exec /venv/bin/celery -A proj worker --discard -B", "python manage.py runworker --purge -B"),
        ('["celery", "-A", "proj", "worker", "-l", "info"]', "python manage.py runworker -l info"),
        ('/bin/sh -c "celery -A proj worker -n w1@%h"', "python manage.py runworker -n w1@%h"),
        ("python -m celery -A proj beat -s /tmp/x", "python manage.py runbeat; -s /tmp/x: not needed"),
        ("celery -A proj purge -f -Q a,b", "python manage.py tasks purge -f -Q a,b"),
        ("celery -A proj call shop.add -a '[1, 2]'", "python manage.py tasks call shop.add -a '[1, 2]'"),
        ("celery -A proj status", "python manage.py tasks status"),
        ("celery -A proj worker -I a.b", "python manage.py runworker; -I a.b: set INCLUDE"),
        ("celery -A proj -b redis://:pw@h worker", "python manage.py runworker; -b …: set BROKER_URL"),
        ("celery -A proj worker --frobnicate", "python manage.py runworker; --frobnicate: not known"),
        ("${CELERY_BIN} -A $APP multi start $NODES", "no counterpart: one service for each worker"),
        ("celery -A proj flower", "celery --broker $BROKER_URL flower; Flower stays"),
        ("celery -A proj events --dump -l info", "python manage.py tasks events --dump; -l info: not needed"),
        ("celeryd -c 3", "python manage.py runworker -c 3"),
        ("celery -A p worker -P ${POOL}", "python manage.py runworker -P ${POOL}; ${POOL} must be"),
        ("celery -A proj worker -c '", "python manage.py runworker"),
    ],
)
def test_a_command_line_is_translated(line, ours):
    """Options are kept by our names; what is left out is named, with the reason."""
    [found] = translate(line)
    assert found.instead.startswith(ours)


@pytest.mark.parametrize(
    ("text", "line", "ours"),
    [
        ('"command": "uv run celery --app p worker -l DEBUG",', 1, "python manage.py runworker -l DEBUG"),
        ("Run `celery -A p worker -c 2` then", 1, "python manage.py runworker -c 2 then"),
        ("a:\n  image: x\n  command: [\n    'celery', '-A',\n    'p', 'worker'\n  ]", 4, "python manage.py runworker"),
        ("Environment=CELERY_BIN=/x/celery\nExecStart=/bin/sh -c '${CELERY_BIN} -A p beat'", 2, "python manage.py runbeat"),
        ("container_name: celery worker -A", 0, ""),
        ("image: proj/celery:latest", 0, ""),
    ],
)
def test_a_command_is_found_in_the_files_of_other_programs(tmp_path, text, line, ours):
    """As a value of JSON, in a sentence, over several lines, behind a variable; titles and images are none."""
    found = [(number, instead) for number, _, _, instead in findings(tmp_path, {"some.yml": text})]
    assert [number for number, _ in found] == ([line] if line else [])
    assert all(instead.startswith(ours) for _, instead in found)


@pytest.mark.parametrize(
    "line",
    [
        "The celery worker that runs",
        "celery is a vegetable",
        "docker compose up -d celerybeat celeryworker",
        "pip install celery",
        "proj/celery.py",
        "celery",
    ],
)
def test_a_sentence_is_no_command(line):
    """Texts that only speak of Celery are left alone."""
    assert list(translate(line)) == []
