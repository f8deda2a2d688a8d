"""Which rows of revoked tasks a node passes on."""

from typing import Any

import pytest

from django_tasks import clock
from django_tasks.models import Revocation
from django_tasks.result import revoke_tasks
from django_tasks.worker import revocations
from django_tasks.worker.revocations import RevocationWatch

pytestmark = pytest.mark.django_db


def ids(rows: list[tuple[int, str, bool, str]]) -> list[str]:
    return [row[1] for row in rows]


def take_away(task_id: str) -> Revocation:
    """Take a row out of the table as if its transaction had not ended yet."""
    row = Revocation.objects.get(task_id=task_id)
    Revocation.objects.filter(pk=row.pk).delete()
    return row


def test_each_row_is_passed_on_once() -> None:
    """Those that were there before, and those that come; what is revoked once more is told once more, with what was said last."""
    watch = RevocationWatch()
    assert watch.look() == []
    revoke_tasks(["a", "b"])
    assert ids(watch.look()) == ["a", "b"]
    assert watch.look() == []
    revoke_tasks(["b", "c"], terminate=True, signal="SIGINT")
    assert [row[1:] for row in watch.look()] == [("b", True, "SIGINT"), ("c", True, "SIGINT")]
    assert watch.look() == []


def test_a_row_of_a_long_transaction_is_not_missed() -> None:
    """It began before the others, and comes after them: its number is the smallest."""
    watch = RevocationWatch()
    revoke_tasks(["long"], terminate=True)
    held = take_away("long")
    revoke_tasks(["short"])
    assert ids(watch.look()) == ["short"]
    held.save(force_insert=True)
    assert [row[1:3] for row in watch.look()] == [("long", True)]
    assert watch.look() == []


def test_many_rows_come_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until all are known, and without those that a chunk had already."""
    monkeypatch.setattr(revocations, "CHUNK", 3)
    revoke_tasks([f"id-{number}" for number in range(7)])
    watch = RevocationWatch()
    assert [len(watch.look()) for _ in range(4)] == [3, 3, 1, 0]


def test_what_is_revoked_now_does_not_wait_for_what_was_revoked_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that starts where thousands have been revoked must pass on at once what is revoked from then on."""
    monkeypatch.setattr(revocations, "CHUNK", 3)
    revoke_tasks([f"old-{number}" for number in range(20)])
    watch = RevocationWatch()
    watch.look()
    revoke_tasks(["now"], terminate=True)
    assert "now" in ids(watch.look())


def test_what_has_been_known_for_long_is_not_read_again(monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any) -> None:
    """A look at nothing new is one query, which counts the rows of the last minutes only."""
    now = 1000.0
    monkeypatch.setattr(clock, "monotonic", lambda: now)
    watch = RevocationWatch()
    revoke_tasks(["old"])
    (row,) = watch.look()
    now += revocations.LONGEST_TRANSACTION + 1
    assert watch.look() == []
    with django_assert_num_queries(1) as queries:
        assert watch.look() == []
    assert f"> {row[0]}" in queries[0]["sql"]
    revoke_tasks(["new"])
    assert ids(watch.look()) == ["new"]
