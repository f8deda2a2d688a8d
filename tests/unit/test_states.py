"""The states and what they imply."""

from django_tasks import states
from django_tasks.states import state


def test_every_state_is_ready_or_not():
    """Ready and unready states don't overlap, and those whose error is raised are ready."""
    assert set() == states.READY_STATES & states.UNREADY_STATES
    assert states.PROPAGATE_STATES <= states.READY_STATES
    assert states.PROPAGATE_STATES <= states.EXCEPTION_STATES
    assert states.ALL_STATES <= states.READY_STATES | states.UNREADY_STATES


def test_states_compare_by_precedence():
    """A state that tells more is the larger one, and a custom state lies between FAILURE and REVOKED."""
    assert state(states.STARTED) < state(states.SUCCESS)
    assert state(states.PENDING) < state(states.RETRY)
    assert state("PROGRESS") > state(states.STARTED)
    assert state("PROGRESS") > state(states.REVOKED)
    assert state("PROGRESS") < state(states.FAILURE)
    assert state("PROGRESS") >= state("OTHER")
    assert state("PROGRESS") <= state("OTHER")


def test_a_state_is_its_text():
    """A state equals and prints as the plain text."""
    assert state("SUCCESS") == "SUCCESS"
    assert f"{state('SUCCESS')}" == "SUCCESS"
