"""One signature in several places: what is done to one of them is not done to the others."""

import pytest

from django_tasks.canvas import chain, group, signature
from django_tasks.registry import registry
from django_tasks.tasks import shared_task
from django_tasks.testing import in_memory


@pytest.mark.parametrize("linked", ["link", "link_error"])
def test_a_callback_of_two_calls_has_the_stamps_of_each(linked):
    """Revoking one tenant's tasks would revoke another one's, otherwise."""
    callback = signature("shared.callback")
    calls = {tenant: signature("shared.call") for tenant in ("a", "b")}
    for call in calls.values():
        getattr(call, linked)(callback)
    for tenant, call in calls.items():
        call.stamp(tenant=tenant)
    assert [call.options[linked][0].options["tenant"] for call in calls.values()] == ["a", "b"]
    assert callback.options == {}


def test_a_step_that_comes_twice_has_two_ids():
    """Frozen, as well as sent."""
    step = signature("shared.step")
    assert len(set(chain(step, step, step).freeze().as_list())) == 3
    other = signature("shared.step")
    assert len({result.id for result in group(other, other).freeze().results}) == 2


def test_a_task_may_be_replaced_by_a_chain_that_has_a_step_twice(own_registry):
    """Its result is that of the last step, and not of the first one, under the same id."""

    @shared_task(name="shared.double")
    def double(value):
        return 2 * value

    @shared_task(name="shared.replace", bind=True)
    def replace(self):
        step = double.s()
        return self.replace(chain(double.s(1), step, step))

    with in_memory() as queue:
        result = registry["shared.replace"].delay()
        done = [outcome.request.id for outcome in queue.run_pending(raise_errors=True)]
        assert result.get(timeout=0) == 8
    assert len(set(done)) == 3
