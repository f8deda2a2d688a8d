"""Eager mode, and other settings for a while."""

import asyncio

import pytest
from django.test import override_settings

from django_tasks import AsyncResult
from django_tasks.application import app
from django_tasks.conf import settings
from django_tasks.testing import eager, in_memory
from django_tasks.testing.overriding import overridden
from tests.sampleapp.tasks import add, fail


def test_eager_runs_at_once_and_raises_at_the_caller():
    """Inside the block a call runs here; outside, settings are as before."""
    with eager():
        assert add.delay(1, 2).get() == 3
        with pytest.raises(ValueError, match="broken"):
            fail.delay()
    assert settings.TASK_ALWAYS_EAGER is False


def test_eager_without_propagation_keeps_the_error_in_the_result():
    """With propagates=False a failure is a result."""
    with eager(propagates=False):
        assert isinstance(fail.delay().result, ValueError)


def test_eager_decorates_functions_and_coroutines():
    """As a decorator it holds while the function runs, awaited or not, and each time anew."""

    @eager()
    def run():
        return add.delay(1, 2).get()

    @eager()
    async def run_async():
        await asyncio.sleep(0)
        return settings.TASK_ALWAYS_EAGER

    assert run() == run() == 3
    assert asyncio.run(run_async()) is True
    assert settings.TASK_ALWAYS_EAGER is False


def test_eager_decorates_generators():
    """It holds as long as they last, as fixtures do, and ends with them, also where they are closed early."""

    @eager()
    def fixture():
        yield add.delay(1, 2).get()
        yield settings.TASK_ALWAYS_EAGER

    @eager()
    async def async_fixture():
        yield settings.TASK_ALWAYS_EAGER
        await asyncio.sleep(0)
        yield settings.TASK_ALWAYS_EAGER

    async def collected():
        return [value async for value in async_fixture()]

    assert (list(fixture()), asyncio.run(collected())) == ([3, True], [True, True])
    early = fixture()
    next(early)
    early.close()
    assert settings.TASK_ALWAYS_EAGER is False


def test_a_class_is_refused_with_the_way_out():
    """A decorated class says what to do instead."""
    with pytest.raises(TypeError, match=r"decorate its test methods, or use django_tasks\.testing\.TasksMixin"):
        eager()(type("OrderTests", (), {}))


def test_overridden_settings_come_back_also_those_of_app_conf():
    """What app.conf was given before is there again, and Django's settings in the block don't undo the block."""
    app.conf.task_default_queue = "mine"
    try:
        with overridden(TASK_DEFAULT_QUEUE="block"), override_settings(DJANGO_TASKS={"TASK_DEFAULT_QUEUE": "django"}):
            assert settings.TASK_DEFAULT_QUEUE == "block"
        assert settings.TASK_DEFAULT_QUEUE == "mine"
    finally:
        settings.drop_overrides()


def test_a_queue_in_memory_wins_over_eager_mode_and_is_gone_afterwards():
    """in_memory() queues even where the project's tests are eager."""
    before = settings.BROKER_URL
    with override_settings(DJANGO_TASKS={"TASK_ALWAYS_EAGER": True}), in_memory() as queue:
        add.delay(1, 2)
        assert len(queue) == 1
    assert before == settings.BROKER_URL


def test_the_package_offers_what_it_lists():
    """Every public name is found, and an unknown one is an AttributeError."""
    from django_tasks import testing

    assert all(getattr(testing, name) is not None for name in testing.__all__)
    assert sorted(name for names in testing._HOMES.values() for name in names) == sorted(testing.__all__)
    with pytest.raises(AttributeError, match="'nothing'"):
        testing.nothing  # noqa: B018


def test_what_is_stored_of_eager_tasks_says_as_much_as_a_workers():
    """A stored eager result has the task's name and arguments, as one that a worker has stored."""
    with in_memory(), eager(store_results=True):
        kept = AsyncResult(add.delay(1, y=2).id)
        assert (kept.get(timeout=0), kept.name, kept.args, kept.kwargs) == (3, add.name, [1], {"y": 2})
