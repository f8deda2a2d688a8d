"""What is assigned to ``app.conf``: all of it, or nothing where a name is wrong."""

import pytest

from django_tasks.application import app
from django_tasks.conf import settings
from django_tasks.testing.overriding import overridden


@pytest.fixture(autouse=True)
def _dropped():
    yield
    settings.drop_overrides()


def test_an_unknown_name_changes_nothing():
    """Also where known names stand before it."""
    with pytest.raises(KeyError, match="did you mean 'task_always_eager'"):
        app.conf.update({"task_always_eager": True, "task_always_eage": True})
    assert settings.overrides() == {}


def test_an_unknown_attribute_is_an_attribute_error():
    """As it is when it is read."""
    with pytest.raises(AttributeError, match="did you mean 'task_always_eager'"):
        app.conf.task_always_eage = True
    with pytest.raises(KeyError):
        app.conf["task_always_eage"] = True


@pytest.mark.parametrize(
    "values", [{"TASK_ALWAYS_EAGER": True, "TASK_ALWAYS_EAGE": True}, {"BROKER_URL": "memory://x", "RESULT_BACKEN": 1}]
)
def test_settings_that_can_not_be_overridden_leave_nothing_behind(values):
    """Later tests would run on them, wherever the mistake was made: a marker, or celery_config."""
    app.conf.task_default_queue = "mine"
    with pytest.raises(KeyError), overridden(**values):
        pass
    assert settings.overrides() == {"TASK_DEFAULT_QUEUE": "mine"}
