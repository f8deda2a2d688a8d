"""Settings and the table of them."""

from datetime import timedelta
from pathlib import Path

import pytest
from celery.app.defaults import _OPTIONS as CELERYS
from celery.app.defaults import _TO_OLD_KEY
from django.test import override_settings

import django_tasks
from django_tasks.conf import settings
from django_tasks.conf_options import CELERY_BACKENDS, OPTIONS, current_name


@pytest.fixture(autouse=True)
def _fresh():
    yield
    settings.drop_overrides()


def test_the_contracts_defaults():
    """Where we differ from Celery on purpose."""
    with override_settings(DJANGO_TASKS={}):
        assert settings.BROKER_URL == settings.RESULT_BACKEND == "db://default"
        assert (settings.TASK_ACKS_LATE, settings.TASK_REJECT_ON_WORKER_LOST, settings.TASK_TRACK_STARTED) == (True, True, True)
        assert (settings.TASK_MAX_DELIVERIES, settings.TASK_DEFAULT_QUEUE, settings.ACCEPT_CONTENT) == (3, "default", ["json"])
        assert (settings.RESULT_EXTENDED, settings.TASK_PUBLISH_ON_COMMIT, settings.TASK_DEFAULT_PRIORITY) == (True, True, 0)


def test_our_dictionary_wins_over_celerys_names_and_they_over_defaults():
    """DJANGO_TASKS, then CELERY_*, then the default."""
    with override_settings(DJANGO_TASKS={"TASK_DEFAULT_QUEUE": "ours"}, CELERY_TASK_DEFAULT_QUEUE="theirs", CELERY_TASK_MAX_DELIVERIES=7):
        assert settings.TASK_DEFAULT_QUEUE == "ours"
        assert settings.TASK_MAX_DELIVERIES == 7
        assert settings.TASK_SERIALIZER == "json"


def test_a_changed_setting_is_seen_at_once():
    """override_settings counts inside the block only, for either form."""
    before = settings.TASK_DEFAULT_QUEUE
    with override_settings(DJANGO_TASKS={"TASK_DEFAULT_QUEUE": "one"}):
        assert settings.TASK_DEFAULT_QUEUE == "one"
        with override_settings(DJANGO_TASKS={"TASK_DEFAULT_QUEUE": "two"}):
            assert settings.TASK_DEFAULT_QUEUE == "two"
        assert settings.TASK_DEFAULT_QUEUE == "one"
    assert before == settings.TASK_DEFAULT_QUEUE
    with override_settings(CELERY_TASK_DEFAULT_QUEUE="three"):
        assert settings.TASK_DEFAULT_QUEUE == "three"
    assert before == settings.TASK_DEFAULT_QUEUE


def test_times_are_seconds():
    """A timedelta is as good as a number."""
    with override_settings(DJANGO_TASKS={"RESULT_EXPIRES": timedelta(hours=1)}):
        assert settings.RESULT_EXPIRES == 3600


def test_an_unknown_setting_is_an_error():
    """Code that asks for what does not exist is told so."""
    with pytest.raises(AttributeError, match="NO_SUCH"):
        _ = settings.NO_SUCH


def test_what_is_configured_is_known():
    """A value that equals the default counts as set all the same."""
    with override_settings(DJANGO_TASKS={"TASK_DEFAULT_QUEUE": "default"}):
        assert settings.is_configured("TASK_DEFAULT_QUEUE")
        assert not settings.is_configured("TASK_SERIALIZER")


def test_something_else_than_a_dictionary_does_no_harm():
    """The system check reports it; until then the defaults hold."""
    with override_settings(DJANGO_TASKS=5):
        assert settings.TASK_DEFAULT_QUEUE == "default"


def test_an_override_of_the_process_wins():
    """What app.conf sets holds until it is dropped."""
    settings.override("TASK_DEFAULT_QUEUE", "process")
    with override_settings(DJANGO_TASKS={"TASK_DEFAULT_QUEUE": "ours"}):
        assert settings.TASK_DEFAULT_QUEUE == "process"
        settings.drop_overrides()
        assert settings.TASK_DEFAULT_QUEUE == "ours"


def test_every_setting_of_celery_is_known():
    """A project can move over with its settings as they are."""
    assert {name.upper() for name in CELERYS} - set(OPTIONS) == set()


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_is_consistent(name):
    """The default has an allowed type and value, and there is a sentence about it."""
    option = OPTIONS[name]
    assert isinstance(option.default, option.types)
    assert option.choices is None or option.default in option.choices
    assert option.doc.endswith(".")
    assert option.doc[0].isupper()
    assert name == name.upper()
    if not option.effective:
        assert option.doc.startswith("No effect. ")


def test_a_setting_with_an_effect_is_read_somewhere():
    """What no module asks for is listed as without effect, so that the system check says so."""
    package = Path(django_tasks.__file__).parent
    sources = [path.read_text(encoding="utf-8") for path in package.rglob("*.py") if "conf_options" not in path.parts]
    # The adapter over Celery's result backends hands on all that this table names.
    assert any("in CELERY_BACKENDS" in source for source in sources)
    asked = {name for name, option in OPTIONS.items() if option.effective} - set(CELERY_BACKENDS)
    unread = {name for name in asked if not any(name in source for source in sources)}
    # Its only allowed value is what is done anyway.
    assert unread == {"TASK_PROTOCOL"}


def test_the_settings_can_be_listed():
    """Iterating gives every name."""
    assert set(settings) == set(OPTIONS)


def test_old_names_lead_to_todays():
    """Every name that Celery renamed is answered with the new one."""
    renamed = {old: new.upper() for new, old in _TO_OLD_KEY.items() if old not in {f"CELERY_{new.upper()}", new.upper()}}
    assert {old: current_name(old, OPTIONS) for old in renamed} == renamed
    assert current_name("ACKS_LATE", OPTIONS) == "TASK_ACKS_LATE"
    assert current_name("CELERY_NONSENSE", OPTIONS) is None
