"""Workflows through the database: broker, result backend, executor and completer as a worker has them."""

import pytest

from django_tasks import app, brokers, chord, group, result_backends, shared_task
from django_tasks.canvas.links import followups
from django_tasks.context import Request
from django_tasks.exceptions import ChordError
from django_tasks.executor import Executor
from django_tasks.models import Revocation
from django_tasks.protocol import decode
from django_tasks.registry import registry
from django_tasks.worker.completer import Completer

pytestmark = pytest.mark.django_db(transaction=True)


@shared_task(name="database.flow.add")
def add(x, y):
    """Add."""
    return x + y


@shared_task(name="database.flow.total")
def total(values):
    """Add up."""
    return sum(values)


@shared_task(name="database.flow.fail")
def fail(*args):
    """Fail."""
    raise ValueError("bad")


@shared_task(name="database.flow.fan", bind=True)
def fan(self, n):
    """Let a chord run in its place."""
    return self.replace(group(add.s(i, i) for i in range(n)) | total.s())


def drain() -> int:
    """Run all that waits, and what that sends, as one worker process would; return how many tasks ran."""
    broker = brokers.current()
    consumer = broker.consume(["default"], consumer_id="a-test")
    completer = Completer(broker=broker, backend=result_backends.current(), hostname="w1@here", wake=lambda: None)
    executor = Executor(follow=followups)
    ran = 0
    try:
        while deliveries := consumer.receive(50, 0):
            for delivery in deliveries:
                message = decode(delivery.envelope, accept=["json", "application/json"])
                completer.add(
                    executor.execute(Request(message=message, delivery=delivery, definition=registry[message.task], hostname="w1@here"))
                )
                ran += 1
            completer.flush(consumer)
    finally:
        consumer.close()
    return ran


def test_workflows_end_with_the_right_values():
    """Chains, groups, chords in each other and a replaced task come out right, read from the database."""
    through_a_group = (add.s(1, 1) | group(add.s(1), add.s(2)) | total.s() | add.s(3)).apply_async()
    nested = chord([chord([add.s(1, 1), add.s(2, 2)], total.s()), add.s(5, 5)], total.s()).apply_async()
    replaced = fan.delay(4)
    many = group(add.s(i, i) for i in range(100)).apply_async()
    drain()
    assert through_a_group.get(timeout=1) == 10
    assert nested.get(timeout=1) == 16
    assert replaced.get(timeout=1) == 12
    assert many.get(timeout=1) == [2 * i for i in range(100)]


def test_shape_of_nested_groups_is_kept():
    """A header with a chain that ends in a group gives the body a list in a list."""

    @shared_task(name="database.flow.same")
    def same(value):
        return value

    try:
        result = chord([add.s(1, 1) | group(add.s(1), add.s(2)), add.s(5, 5)], same.s()).apply_async()
        drain()
        assert result.get(timeout=1) == [[3, 4], 10]
    finally:
        registry.unregister("database.flow.same")


def test_failed_part_fails_the_body():
    """The body of a chord with a failed part has a ChordError, and doesn't run."""
    result = chord([add.s(1, 1), fail.s()], total.s()).apply_async()
    assert drain() == 2
    assert result.state == "FAILURE"
    assert isinstance(result.result, ChordError)


def test_chain_in_a_header_that_fails_early_fails_the_body():
    """A chain that fails before its last step is a failed part: the chord doesn't wait for ever."""
    result = chord([fail.si() | add.s(1), add.s(1, 1)], total.s()).apply_async()
    drain()
    assert result.state == "FAILURE"


def test_revoke_by_the_app():
    """app.control.revoke records the revocation and, for tasks nobody has seen, the state; terminate says so."""
    app.control.revoke(["a", "b"])
    app.control.terminate("a")
    assert set(Revocation.objects.values_list("task_id", "terminate")) == {("a", True), ("b", False)}
    assert app.AsyncResult("b").state == "REVOKED"
