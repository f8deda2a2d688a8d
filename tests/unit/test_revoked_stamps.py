"""Stamps that were revoked: which tasks they mean, and what a worker's process does with them."""

from typing import Any
from uuid import UUID

import pytest

from django_tasks.messages import TaskMessage
from django_tasks.serializers import dumps_json
from django_tasks.worker.revoked import RevokedStamps, RevokedTasks


def stamped(**stamps: Any) -> TaskMessage:
    return TaskMessage(id="id-1", task="t", stamped_headers=list(stamps), stamps=stamps)


def revoked(**values: Any) -> RevokedStamps:
    return RevokedStamps((name, dumps_json(value)) for name, several in values.items() for value in several)


UID = UUID("12345678123456781234567812345678")


@pytest.mark.parametrize(
    ("values", "stamp", "meant"),
    [
        (["acme"], "acme", True),
        (["acme"], "Acme", False),
        (["acme"], "acme corp", False),
        (["other", "acme"], "acme", True),
        (["acme"], ["x", "acme"], True),
        (["acme", "y"], ("x", "y"), True),
        (["acme"], ["x", "y"], False),
        (["acme"], [], False),
        (["acme"], None, False),
        ([5], 5, True),
        ([5], [4, 5], True),
        (["5"], 5, False),
        ([{"a": 1}], {"a": 1}, True),
        ([{"a": 1}], {"a": 2}, False),
        ([[1, 2]], [[1, 2], 3], True),
        ([[1, 2]], [1, 2], False),
        (["[1,2]"], [[1, 2]], False),
        ([UID], UID, True),
        ([UID], [str(UID)], False),
    ],
)
def test_a_stamp_is_matched_by_equality_or_membership(values: list[Any], stamp: Any, meant: bool) -> None:
    """It is one of the values, or a list with one of them; nothing is taken for something like it."""
    assert revoked(tenant=values).match(stamped(tenant=stamp)) is meant


def test_one_stamp_is_enough_and_another_name_is_another_stamp() -> None:
    """Of several revoked stamps a task need have one only; a value counts under its own name."""
    stamps = revoked(tenant=["acme"], order=[1])
    assert stamps.match(stamped(tenant="acme", order=2))
    assert stamps.match(stamped(order=1))
    assert not stamps.match(stamped(tenant=1, order="acme"))
    assert not stamps.match(stamped())


def test_only_headers_that_the_message_calls_stamps_count() -> None:
    """As in Celery: ``stamped_headers`` says which of a message's headers are stamps."""
    assert not revoked(tenant=["acme"]).match(TaskMessage(id="id-1", task="t", stamps={"tenant": "acme"}))
    assert not revoked(tenant=["acme"]).match(TaskMessage(id="id-1", task="t", stamped_headers=["tenant"]))


def test_revoked_stamps_forbid_a_task_until_they_are_gone() -> None:
    """Whatever its id; once there are none, it may run."""
    tasks = RevokedTasks()
    assert not tasks.forbids(stamped(tenant="acme"))
    tasks.stamps = revoked(tenant=["acme"])
    assert tasks.forbids(stamped(tenant="acme"))
    assert not tasks.forbids(stamped(tenant="other"))
    tasks.stamps = RevokedStamps()
    assert not tasks.forbids(stamped(tenant="acme"))


def test_without_revoked_stamps_nobody_looks_at_a_message_s_stamps() -> None:
    """It costs a message nothing that others might be revoked by their stamps."""

    class Unread(TaskMessage):
        @property
        def stamped_headers(self) -> Any:
            raise AssertionError("looked at")

    message = object.__new__(Unread)
    object.__setattr__(message, "id", "id-1")
    tasks = RevokedTasks()
    assert not tasks.forbids(message)
    tasks.stamps = revoked(tenant=["acme"])
    with pytest.raises(AssertionError, match="looked at"):
        tasks.forbids(message)


def test_what_a_node_reads_is_obeyed_and_nothing_else() -> None:
    """Ids are added, stamps take the place of those before; other commands are somebody else's."""
    tasks = RevokedTasks()
    assert tasks.obey({"do": "revoked", "tasks": {"id-9": 3}})
    assert tasks.obey({"do": "revoked_stamps", "stamps": [["tenant", '"old"']], "stop": []})
    assert tasks.obey({"do": "revoked_stamps", "stamps": [["tenant", '"acme"']], "stop": []})
    assert not tasks.obey({"do": "queues", "queues": []})
    assert tasks.forbids(TaskMessage(id="id-9", task="t"))
    assert [tasks.forbids(stamped(tenant=value)) for value in ("old", "acme")] == [False, True]
