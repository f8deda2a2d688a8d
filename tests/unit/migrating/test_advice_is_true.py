"""Everything of Celery's has an answer, and what the advice names is there."""

import re
from importlib import import_module

import pytest
from celery.bin import beat as celery_beat
from celery.bin import celery as celery_program
from celery.bin import events as celery_events
from celery.bin import purge as celery_purge
from celery.bin import worker as celery_worker
from django.core.management import CommandError, call_command, load_command_class

from django_tasks import app
from django_tasks.application import COMMANDS_TO_COME
from django_tasks.conf_options import OPTIONS
from django_tasks.operations.migrating.appuses import _ACCEPTED, _MISSING
from django_tasks.operations.migrating.commandnames import COMMANDS, GLOBAL
from django_tasks.operations.migrating.names import ADVICE, COMPANIONS, MOVED, advice, counterpart
from django_tasks.operations.migrating.taskcode import _NOT_OURS
from django_tasks.operations.migrating.taskoptions import PROPERTIES
from django_tasks.tasks import Task


def parser_options(name, *path):
    """The spellings that a command of ours takes."""
    if name.startswith("tasks "):
        commands = load_command_class("django_tasks", "tasks").create_parser("manage.py", "tasks")
        [choices] = [action.choices for action in commands._actions if hasattr(action, "add_parser")]
        return set(choices[name.split()[1]]._option_string_actions)
    return set(load_command_class("django_tasks", name).create_parser("manage.py", name)._option_string_actions)


def test_every_option_that_is_kept_is_an_option_of_ours():
    """What a command line is translated into is accepted by the command."""
    translated = {name: command for name, command in COMMANDS.items() if command.instead and command.instead != "shell"}
    assert {name: set(command.kept.values()) - parser_options(command.instead) for name, command in translated.items()} == {
        name: set() for name in translated
    }


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("worker", celery_worker.worker), ("beat", celery_beat.beat), ("purge", celery_purge.purge), ("events", celery_events.events)],
)
def test_every_option_of_celerys_has_an_answer(name, theirs):
    """No option of the installed Celery's command is unknown."""
    spellings = {spelling for option in theirs.params for spelling in (*option.opts, *option.secondary_opts) if spelling.startswith("-")}
    assert spellings - {*COMMANDS[name].kept, *COMMANDS[name].dropped, *GLOBAL} - {"--help"} == set()
    with_value = {one for option in theirs.params if not getattr(option, "is_flag", False) for one in option.opts if one.startswith("-")}
    assert with_value <= COMMANDS[name].takes
    assert spellings - with_value - set(COMMANDS[name].takes) == spellings - with_value


def test_every_command_of_celerys_has_an_answer():
    """No command of the installed Celery is unknown."""
    assert set(celery_program.celery.commands) - set(COMMANDS) == set()


def test_every_counterpart_is_there():
    """What an import is replaced by can be imported."""
    for target in MOVED.values():
        module, _, name = target.partition(":")
        try:
            assert hasattr(import_module(module), name), target
        except AssertionError:
            import_module(f"{module}.{name}")


NAMED = re.compile(r"\bdjango_tasks(?:\.\w+)+")


def test_every_name_in_an_advice_is_there():
    """Dotted names of ours that an advice mentions exist; so do the settings."""
    texts = [text for _, text in (*ADVICE.values(), *COMPANIONS.values())] + [*_MISSING.values(), *_NOT_OURS.values(), *_ACCEPTED.values()]
    for named in {name for text in texts for name in NAMED.findall(text)} - {"django_tasks.result_backends"}:
        module, _, name = named.rpartition(".")
        try:
            import_module(named)
        except ModuleNotFoundError:
            assert hasattr(import_module(module), name), named
    settings = {name for text in texts for name in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b|\bIMPORTS\b|\bMIDDLEWARE\b", text)}
    assert settings - set(OPTIONS) - {"DJANGO_TASKS", "TIME_ZONE"} == set()


@pytest.mark.parametrize("module", ["celery", "celery.exceptions", "celery.signals", "celery.states", "celery.result", "celery.canvas"])
def test_every_public_name_of_celerys_has_an_answer(module):
    """Each name has a counterpart that can be imported, or an advice of its own."""
    inside = {"execute", "local", "log", "maybe_patch_concurrency", "messaging", "registry", "version_info_t"}
    for name in (name for name in set(import_module(module).__all__) - inside if not name.startswith("_")):
        target = counterpart(module, name)
        if target is None:
            assert "no counterpart is known" not in advice(module, name).text, name
        else:
            home = import_module(target[0])
            assert hasattr(home, target[1]) or import_module(f"{target[0]}.{target[1]}"), name


def test_what_is_said_to_be_missing_is_missing():
    """When one of these comes, the table has to lose its line."""
    assert {name for name in _MISSING if hasattr(app, name)} == set()
    assert {name for name in _NOT_OURS if hasattr(Task, name)} == set()
    assert {name for name in _ACCEPTED if not hasattr(app, name)} == set()
    for name in COMMANDS_TO_COME:
        with pytest.raises(NotImplementedError):
            getattr(app.control, name)


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if "comes with a later release" in command.note])
def test_what_is_said_to_come_later_is_not_there_yet(name):
    """When one of these commands comes, the table has to lose its line."""
    with pytest.raises(CommandError, match="later release"):
        call_command("tasks", name)


def test_properties_that_are_said_to_be_refused_are():
    """What is called no option of a call is none: it raises TypeError where the task is called."""
    for name in PROPERTIES:
        with pytest.raises(TypeError, match="Nothing was sent"):
            app.send_task("nobody.knows", **{name: "x"})
