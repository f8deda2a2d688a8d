"""Directives whose text comes from the code: the settings, a command's options, a model's fields, a folder's fragments."""

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Written(SphinxDirective):
    """A directive that writes Markdown."""

    def lines(self) -> list[str]:
        """Return the Markdown."""
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        """Parse the Markdown in place."""
        container = nodes.container()
        self.state.nested_parse(StringList(self.lines(), self.get_source_info()[0]), 0, container)
        return container.children


def cell(text: str) -> str:
    """Make a text fit into a table's cell."""
    return " ".join(text.split()).replace("|", r"\|")


def code(value: Any) -> str:
    """Show a value as code."""
    return f"`{value}`"


class SettingsTable(Written):
    """Every setting that has an effect: its default, its type, what it does."""

    def lines(self) -> list[str]:
        """Make the table from ``conf_options``."""
        from django_tasks.conf_options import OPTIONS

        rows = ["| Setting | Default | Values | |", "|---|---|---|---|"]
        for name, option in sorted(OPTIONS.items()):
            if option.effective:
                rows.append(f"| `{name}` | {cell(code(repr(option.default)))} | {cell(self._values(option))} | {cell(option.doc)} |")
        return rows

    def _values(self, option: Any) -> str:
        if option.choices:
            return ", ".join(code(repr(choice)) for choice in option.choices)
        words = ", ".join("`None`" if kind is type(None) else code(kind.__name__) for kind in option.types)
        limits = [f"{word} {limit:g}" for word, limit in (("at least", option.at_least), ("at most", option.at_most)) if limit is not None]
        return "; ".join([words, *limits]) if limits else words


class SettingsWithoutEffect(Written):
    """Celery's settings that are accepted and change nothing here, by the reason."""

    def lines(self) -> list[str]:
        """Make the list from ``conf_options``."""
        from django_tasks.conf_options import OPTIONS

        reasons: dict[str, list[str]] = {}
        for name, option in sorted(OPTIONS.items()):
            if not option.effective:
                reasons.setdefault(option.doc.removeprefix("No effect.").strip(), []).append(f"`{name}`")
        return [line for reason, names in reasons.items() for line in (", ".join(names), f": {cell(reason)}", "")]


class CommandOptions(Written):
    """A management command's options, as ``--help`` has them; sub-commands in turn."""

    required_arguments = 1

    def lines(self) -> list[str]:
        """Make the tables from the command's parser."""
        name = self.arguments[0]
        command = import_module(f"django_tasks.management.commands.{name}").Command()
        ours = argparse.ArgumentParser(prog=f"manage.py {name}")
        # Django's own options (--settings, --verbosity, ...) are the same for every command, so they are left out.
        command.add_arguments(ours)
        return [*self._table(ours), *self._subcommands(ours)]

    def _subcommands(self, parser: argparse.ArgumentParser) -> list[str]:
        text: list[str] = []
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
                for name, sub in action.choices.items():
                    text += ["", f"`{parser.prog} {name}`", f": {helps.get(name) or sub.description or name}", "", *self._table(sub)]
                    text += self._subcommands(sub)
        return text

    def _table(self, parser: argparse.ArgumentParser) -> list[str]:
        rows = []
        for action in parser._actions:
            if isinstance(action, argparse._HelpAction | argparse._SubParsersAction) or action.help == argparse.SUPPRESS:
                continue
            words = ", ".join(code(option) for option in action.option_strings) or code(action.dest)
            if action.option_strings and action.nargs != 0:
                words += f" {code(self._metavar(action))}"
            rows.append(f"| {cell(words)} | {cell(parser._get_formatter()._expand_help(action) if action.help else '')} |")
        return ["", "| Option | |", "|---|---|", *rows, ""] if rows else []

    def _metavar(self, action: argparse.Action) -> str:
        if action.choices:
            return ", ".join(map(str, action.choices))
        return str(action.metavar or action.dest.upper())


class ModelFields(Written):
    """A model's fields."""

    required_arguments = 1

    def lines(self) -> list[str]:
        """Make the table from the model."""
        from django.apps import apps

        model = apps.get_model("django_tasks", self.arguments[0])
        rows = ["| Field | Type | |", "|---|---|---|"]
        for field in model._meta.get_fields():
            rows.append(f"| `{field.name}` | `{type(field).__name__}` | {cell(str(getattr(field, 'verbose_name', '')))} |")
        return rows


class Fragments(Written):
    """The changes that are not in a release yet: every file of ``docs/changes``."""

    def lines(self) -> list[str]:
        """Join the files."""
        folder = Path(self.env.srcdir) / "changes"
        text: list[str] = []
        for path in sorted(folder.glob("*.md")):
            if path.stem not in ("README", "index"):
                self.env.note_dependency(str(path))
                text += [*path.read_text(encoding="utf-8").splitlines(), ""]
        return text


def setup(app: Sphinx) -> dict[str, bool]:
    """Enter the directives."""
    app.add_directive("settings-table", SettingsTable)
    app.add_directive("settings-without-effect", SettingsWithoutEffect)
    app.add_directive("command-options", CommandOptions)
    app.add_directive("model-fields", ModelFields)
    app.add_directive("change-fragments", Fragments)
    return {"parallel_read_safe": True}
