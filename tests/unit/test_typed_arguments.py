"""Arguments as people type them, in the admin and on the command line: what is wrong with them is said."""

import pytest

from django_tasks.operations.calls import BadArguments, parse_arguments


@pytest.mark.parametrize("text", ["[1,\n", "\n", "", "[\f1,\n\n"])
def test_what_ends_too_soon(text):
    """The line where that is may be an empty one."""
    with pytest.raises(BadArguments, match="--args is no JSON"):
        parse_arguments(text, list, "--args")


@pytest.mark.parametrize("text", ["[" * 5000 + "]" * 5000, f"[{'1' * 5000}]"], ids=["too deep", "too long a number"])
def test_what_python_does_not_read(text):
    """Lists in lists in lists, and numbers without end."""
    with pytest.raises(BadArguments, match="--args can't be read"):
        parse_arguments(text, list, "--args")


@pytest.mark.parametrize(("text", "kind"), [("{}", list), ("[]", dict), ("1", list), ("null", dict)])
def test_what_is_something_else(text, kind):
    """An example tells what is asked for."""
    with pytest.raises(BadArguments, match="--args must be a JSON"):
        parse_arguments(text, kind, "--args")
