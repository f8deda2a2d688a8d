"""The checks of what a broker can't do with a project's queues: telling priorities apart, and fanning out."""

import pytest
from django.test import override_settings
from kombu import Exchange, Queue

from django_tasks import app
from django_tasks.brokers import open_broker
from django_tasks.checks import CHECKS
from django_tasks.checks.addresses import check_addresses, check_queues
from django_tasks.checks.priorities import check_priorities
from django_tasks.registry import registry

RABBITMQ = "amqp://guest:secret@nowhere.invalid//"
REDIS = "redis://:secret@nowhere.invalid"


@pytest.fixture(autouse=True)
def tasks():
    """No tasks but these: without a priority, with two of their own, and one in another queue."""
    before = dict(registry)
    for name in before:
        registry.unregister(name)

    def nothing():
        """Do nothing."""

    app.task(nothing, name="shop.plain")
    app.task(nothing, name="shop.soon", priority=5)
    app.task(nothing, name="shop.express", priority=4)
    app.task(nothing, name="shop.mail", queue="mail")
    yield
    for name in list(registry):
        registry.unregister(name)
    for task in before.values():
        registry.register(task)


def found(**values):
    with override_settings(DJANGO_TASKS=values):
        return [f"{message.id} {message.msg} | {message.hint}" for message in check_priorities()]


def only(**values):
    (message,) = found(**values)
    assert message.startswith("django_tasks.W016 ")
    assert "secret" not in message
    return message


def test_it_is_among_the_checks():
    """``manage.py check`` runs it."""
    assert check_priorities in CHECKS


@pytest.mark.parametrize("url", ["db://default", "memory://", REDIS])
def test_brokers_with_enough_steps_are_fine(url):
    """The database, memory and Redis tell the usual priorities apart."""
    assert found(BROKER_URL=url) == []


def test_redis_in_celerys_order_has_four_steps():
    """4 and 5 are one list there, 0 is another; with more steps all differ."""
    message = only(BROKER_URL=REDIS, BROKER_TRANSPORT_OPTIONS={"priority_order": "celery"})
    assert "in the queue 'default' 4 (shop.express), 5 (shop.soon)." in message
    assert "priority_steps" in message
    steps = {"priority_order": "celery", "priority_steps": list(range(10))}
    assert found(BROKER_URL=REDIS, BROKER_TRANSPORT_OPTIONS=steps) == []


@pytest.mark.parametrize(
    ("default", "routed", "said"), [(0, -1, "-1 (shop.plain), 0 (the default)"), (9, 20, "9 (the default), 20 (shop.plain)")]
)
def test_redis_keeps_what_is_above_nine_or_little_below_zero_together(default, routed, said):
    """Larger ones than 9 are 9; the first step below 0 is Celery's 3."""
    assert said in only(BROKER_URL=REDIS, TASK_DEFAULT_PRIORITY=default, TASK_ROUTES={"shop.plain": {"priority": routed}})


def test_rabbitmq_has_no_priorities_unless_queues_are_declared_so():
    """Without TASK_QUEUE_MAX_PRIORITY all of a queue are alike; a queue without a priority in use is not named."""
    message = only(BROKER_URL=RABBITMQ)
    assert "in the queue 'default' 0 (the default), 4 (shop.express), 5 (shop.soon)." in message
    assert "TASK_QUEUE_MAX_PRIORITY" in message
    assert "'mail'" not in message
    assert found(BROKER_URL=RABBITMQ, TASK_QUEUE_MAX_PRIORITY=9) == []


def test_rabbitmq_with_few_steps_cuts():
    """What is above the largest priority of the queue is that one."""
    message = only(BROKER_URL=RABBITMQ, TASK_QUEUE_MAX_PRIORITY=4)
    assert "'default' 4 (shop.express), 5 (shop.soon)." in message


def test_rabbitmqs_queues_are_looked_at_one_by_one():
    """A queue that is declared with priorities is fine, and quorum queues have two steps."""
    queue = Queue("default", max_priority=9)
    assert found(BROKER_URL=RABBITMQ, TASK_QUEUES=[queue, Queue("mail")]) == []
    message = only(BROKER_URL=RABBITMQ, TASK_DEFAULT_QUEUE_TYPE="quorum")
    assert "'default' 0 (the default), 4 (shop.express)." in message


def test_routes_and_the_default_count():
    """Priorities come from TASK_ROUTES and TASK_DEFAULT_PRIORITY as well."""
    routes = {"shop.*": {"priority": 7, "queue": "mail"}}
    message = only(BROKER_URL=RABBITMQ, TASK_DEFAULT_PRIORITY=3, TASK_ROUTES=routes)
    assert "in the queue 'mail' 3 (the default), 4 (shop.express), 5 (shop.soon), 7 (shop.mail)" in message


def test_many_queues_are_counted():
    """A warning stays short."""
    for number in range(8):
        app.task(lambda: None, name=f"shop.t{number}", queue=f"q{number}", priority=1)
    message = only(BROKER_URL="filesystem://")
    assert "and so in 4 more." in message
    assert "q5" not in message


@pytest.mark.parametrize(
    "values",
    [
        {"BROKER_URL": "nonsense://"},
        {"BROKER_URL": 5},
        {"BROKER_URL": RABBITMQ, "TASK_ROUTES": 7},
    ],
)
def test_what_others_report_is_left_to_them(values):
    """Settings that can't be read have checks of their own."""
    assert found(**values) == []


def test_the_default_step_is_cut_to_the_brokers_scale():
    """A broker with 356 steps has them from -100 to 255."""
    with override_settings(DJANGO_TASKS={}):
        steps = [open_broker("memory://").priority_step("q", priority) for priority in (-300, -100, 0, 255)]
    assert steps == [-100, -100, 0, 255]


def test_redis_refuses_queues_of_fanout_exchanges():
    """A worker would not start, so the check says it first; RabbitMQ takes the same queue."""
    queues = ["default", Queue("news", Exchange("news", type="fanout"))]
    with override_settings(DJANGO_TASKS={"BROKER_URL": REDIS, "TASK_QUEUES": queues}):
        (message,) = check_queues()
    assert message.id == "django_tasks.E017"
    assert "the queue 'news' belongs to a fanout exchange" in message.msg
    assert "secret" not in message.msg
    with override_settings(DJANGO_TASKS={"BROKER_URL": RABBITMQ, "TASK_QUEUES": queues}):
        assert check_queues() == []


@pytest.mark.parametrize(
    "values",
    [{"BROKER_TRANSPORT_OPTIONS": 5}, {"TASK_QUEUES": ["django_tasks.parked"]}, {"TASK_DEFAULT_QUEUE": "django_tasks.parked"}],
)
@pytest.mark.parametrize("url", [REDIS, RABBITMQ])
def test_one_mistake_is_one_error(url, values):
    """What the checks of values and of routing say is not said again for the URL."""
    with override_settings(DJANGO_TASKS={"BROKER_URL": url, **values}):
        assert len([message for check in CHECKS for message in check()]) == 1
        assert check_addresses() == check_queues() == []
