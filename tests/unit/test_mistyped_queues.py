"""A queue's name that was typed wrong is told; one that somebody knows is not."""

from types import SimpleNamespace

import pytest
from django.test import override_settings

from django_tasks import brokers
from django_tasks.exceptions import OperationalError
from django_tasks.worker.mistyped import warn_of_mistyped
from django_tasks.worker.options import chosen_queues

SETTINGS = {"TASK_QUEUES": ["default", "mail"], "TASK_ROUTES": {"a.*": {"queue": "reports"}, "b.*": "invoices"}}


@pytest.mark.parametrize(
    ("typed", "there", "meant"),
    [
        ("mial", [], "mail"),
        ("reprots", [], "reports"),
        ("invoises", [], "invoices"),
        ("mail", [], None),
        ("reports", [], None),
        ("mial", ["mial"], None),
        ("something-else", [], None),
        ("mial", OperationalError("away"), None),
    ],
)
def test_a_name_that_nobody_knows_is_told(monkeypatch, caplog, typed, there, meant):
    """The settings, the routes and the broker are asked; a broker that is away is left to the work that follows."""

    def queues():
        if isinstance(there, Exception):
            raise there
        return there

    monkeypatch.setattr(brokers, "current", lambda: SimpleNamespace(queues=queues))
    with override_settings(DJANGO_TASKS=SETTINGS):
        warn_of_mistyped([typed], then="So be it")
    assert len(caplog.messages) == (meant is not None)
    assert meant is None or f"did you mean {meant!r}? So be it" in caplog.text


def test_an_exclusion_that_excludes_nothing_is_told(caplog):
    """``-X mial`` leaves mail consumed: the worker says so, and what was probably meant."""
    with override_settings(DJANGO_TASKS=SETTINGS):
        assert chosen_queues([], ["mial"]) == ("default", "mail")
        assert "did you mean 'mail'?" in caplog.text
        caplog.clear()
        assert chosen_queues([], ["mail"]) == ("default",)
    assert not caplog.messages
