"""Options of a group are those of its members, and options of a chain those of its first step, also within other workflows."""

import json

import pytest

from django_tasks.canvas import chain, chord, group, signature
from django_tasks.registry import registry
from django_tasks.tasks import shared_task
from django_tasks.testing import in_memory


@pytest.fixture(autouse=True)
def _tasks(own_registry):
    @shared_task(name="optional.call")
    def call(*args):
        return args[-1]


def call(name):
    return registry["optional.call"].s(name)


def slow(workflow):
    return workflow.set(queue="slow", priority=3)


FLOWS = {
    "a group before a step": (lambda: slow(group(call("a"), call("b"))) | call("c"), {"a", "b"}),
    "a group within a chain": (lambda: call("x") | slow(group(call("a"), call("b"))) | call("c"), {"a", "b"}),
    "a group at the end of a chain": (lambda: call("x") | slow(group(call("a"), call("b"))), {"a", "b"}),
    "a group as a header": (lambda: chord(slow(group(call("a"), call("b"))), call("c")), {"a", "b"}),
    "a group as a body": (lambda: chord([call("x")], slow(group(call("a"), call("b")))), {"a", "b"}),
    "a group of one before a step": (lambda: slow(group([call("a")])) | call("c"), {"a"}),
    "a group of one within a chain": (lambda: chain(call("x"), slow(group([call("a")])), call("c")), {"a"}),
    "a group with a chain in it": (lambda: slow(group(call("a") | call("b"), call("c"))) | call("d"), {"a", "c"}),
    "a group in a group": (lambda: group(slow(group(call("a"), call("b"))), call("c")), {"a", "b"}),
    "a chain within a chain": (lambda: call("x") | slow(chain(call("a"), call("b"))) | call("c"), {"a"}),
    "a chain before a step": (lambda: slow(chain(call("a"), call("b"))) | call("c"), {"a"}),
    "a chain in a group": (lambda: group(slow(chain(call("a"), call("b"))), call("c")), {"a"}),
    "a chain as a body": (lambda: chord([call("x")], slow(chain(call("a"), call("b")))), {"a"}),
    "a chain that is a body, before a step": (lambda: chord([call("x")], slow(chain(call("a"), call("b")))) | call("c"), {"a"}),
}


@pytest.mark.parametrize("through", [lambda flow: flow, lambda flow: signature(json.loads(json.dumps(flow)))], ids=["made", "JSON"])
@pytest.mark.parametrize("name", FLOWS)
def test_options_reach_those_whose_they_are(name, through):
    """And nobody else."""
    make, expected = FLOWS[name]
    with in_memory() as queue:
        through(make()).apply_async()
        queue.run_pending(raise_errors=True)
        sent = {one.args[-1]: (one.queue, one.priority) for one in queue.published()}
    assert {name for name, place in sent.items() if place == ("slow", 3)} == expected
    assert {place for name, place in sent.items() if name not in expected} <= {("default", 0)}


def test_what_is_given_stays_as_it_is():
    """The members are asked for with the group's options in copies."""
    members = [call("a"), call("b")]
    flow = slow(group(members)) | call("c")
    assert [member.options for member in members] == [{}, {}]
    assert [member.options for member in flow.tasks] == [{"queue": "slow", "priority": 3}] * 2
