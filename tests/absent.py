"""Tests whose server, package or browser isn't here: skipped by name; where CI is set, they fail."""

import os

import pytest

REASON = pytest.StashKey[str]()


def leave_out(item: pytest.Item, reason: str) -> None:
    """Say why the test can't run."""
    if os.environ.get("CI") == "true":
        item.stash[REASON] = reason
    else:
        item.add_marker(pytest.mark.skip(reason=reason))


def fail_if_absent(item: pytest.Item) -> None:
    """Fail before anything of the test has begun."""
    if REASON in item.stash:
        pytest.fail(f"it can't run, which CI=true makes a failure: {item.stash[REASON]}", pytrace=False)
