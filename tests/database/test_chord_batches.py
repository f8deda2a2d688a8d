"""Many chords in one call: what that costs a database, and what of it is particular to one."""

from dataclasses import replace
from functools import partial

import pytest
from django.db import connections, transaction
from django.test.utils import CaptureQueriesContext

from django_tasks import states
from django_tasks.messages import new_id
from django_tasks.models import ChordCounter, ChordPart
from django_tasks.result_backends.backend import NewChord
from django_tasks.result_backends.database import DatabaseResultBackend, chordrows
from django_tasks.result_backends.encoding import decode
from django_tasks.testing.result_probes import BODY, ResultProbes, part

everywhere = pytest.mark.django_db(databases=["default", "postgres", "mysql"])


@pytest.fixture
def backend(alias):
    return DatabaseResultBackend(alias)


def statements(alias, work) -> int:
    """Count the statements of a piece of work but for those of transactions."""
    with transaction.atomic(using=alias), CaptureQueriesContext(connections[alias]) as queries:
        work()
    return sum("SAVEPOINT" not in query["sql"] for query in queries)


def costs(backend, number: int) -> dict[str, int]:
    """Lead so many chords of five parts through their lives; return how many statements each step takes."""
    ids = [new_id() for _ in range(number)]
    parts = {group_id: [part(group_id, position) for position in range(5)] for group_id in ids}
    chords = [NewChord(group_id, 5, BODY, (), [[group_id, None], []] if at % 2 else None) for at, group_id in enumerate(ids)]
    begun, last = [each for some in parts.values() for each in some[:4]], [some[4] for some in parts.values()]
    backend.store([*begun, *last])
    steps = {
        "opening": lambda: backend.open_chords(chords),
        "opening again": lambda: backend.open_chords(chords),
        "counting": lambda: backend.count_chord_parts(begun[: 2 * number]),
        "counting again": lambda: backend.count_chord_parts(begun),
        "counting nothing new": lambda: backend.count_chord_parts(begun),
        "counting the last": lambda: backend.count_chord_parts(last),
        "closing": lambda: backend.close_chords(ids),
        "counting what is closed": lambda: backend.count_chord_parts(last),
    }
    return {name: statements(backend.alias, step) for name, step in steps.items()}


@everywhere
def test_the_number_of_statements_is_not_that_of_chords(backend):
    """Ten times as many chords in a batch must take as many statements, in every step of their lives."""
    # The first time, MySQL is asked for the name of an index.
    costs(backend, 2)
    few, many = costs(backend, 3), costs(backend, 30)
    assert few == many
    assert max(many.values()) <= 7


@everywhere
def test_more_chords_than_one_statement_takes(backend, alias):
    """Hundreds of chords in one call must be counted like a few."""
    ids = [new_id() for _ in range(950)]
    backend.open_chords([NewChord(group_id, 1, BODY) for group_id in ids])
    parts = [part(group_id, 0) for group_id in ids]
    backend.store(parts)
    ready = backend.count_chord_parts(parts)
    assert {each.group_id: each.parts[0].task_id for each in ready} == {each.group_id: each.task_id for each in parts}
    assert {decode(each.parts[0]) for each in ready} == {0}
    assert backend.count_chord_parts(parts) == []
    backend.close_chords(ids)
    counters = ChordCounter.objects.using(alias)
    assert (counters.filter(done=1).exclude(date_done=None).count(), ChordPart.objects.using(alias).count()) == (950, 0)


@everywhere
def test_ids_that_a_database_takes_for_others(backend, alias):
    """A part whose group's id differs in its case only must not count, nor spoil the batch, where a database sees no difference."""
    backend.open_chords([NewChord("a-group", 1, BODY), NewChord("b-group", 1, BODY)])
    (ready,) = backend.count_chord_parts([part("A-Group", 0), part("b-group", 0)])
    assert ready.group_id == "b-group"
    assert list(ChordPart.objects.using(alias).values_list("group_id", flat=True)) == ["b-group"]


@everywhere
def test_an_index_with_another_name(backend, alias, monkeypatch):
    """Where MySQL has no index that finds counters by their group, counting must do without."""
    monkeypatch.setattr(chordrows, "_HINTS", {})
    monkeypatch.setattr(connections[alias].introspection, "get_constraints", lambda cursor, table: {})
    backend.open_chords([NewChord("a-group", 1, BODY)])
    assert len(backend.count_chord_parts([part("a-group", 0)])) == 1


@pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"])
def test_transactions_that_have_the_same_chords(backend, alias):
    """Workers that apply the same outcomes at once, each batch in one transaction, must not wait for each other for ever."""
    if alias == "default":
        with connections[alias].cursor() as cursor:
            cursor.execute("PRAGMA journal_mode=WAL")
    for _ in range(3):
        ids = [new_id() for _ in range(20)]
        backend.open_chords([NewChord(group_id, 3, BODY) for group_id in ids])
        parts = [part(group_id, position) for group_id in ids for position in range(3)]
        found: list[str] = []
        probes = ResultProbes()
        probes.in_thread = lambda work: (work(), connections.close_all())
        probes.all_at_once([partial(apply, backend, mine, found) for mine in (parts, parts[::-1], parts[::2] + parts[1::2])])
        assert sorted(found) == sorted(ids)


def apply(backend, mine, found) -> None:
    for start in range(0, len(mine), 12):
        some = mine[start : start + 12]
        with transaction.atomic(using=backend.alias):
            backend.store(some)
            ready = [each.group_id for each in backend.count_chord_parts(some)]
            backend.close_chords(ready)
        found.extend(ready)


@everywhere
def test_a_failure_that_was_taken_back_before_it_was_counted(backend):
    """Its part runs again: the body waits for that, and is not called with what is not there. The other chord is not held up."""
    again, lost = new_id(), new_id()
    backend.open_chords([NewChord(group_id, 2, BODY) for group_id in (again, lost)])
    well = part(again, 0)
    # A worker stores and counts in two steps; «run again and go on» comes in between.
    failed, gone = (replace(part(group_id, 1), status=states.FAILURE) for group_id in (again, lost))
    backend.store([well, failed, gone])
    assert backend.count_chord_parts([well]) == []
    assert backend.reopen([failed.task_id], {again: [well.task_id, failed.task_id]}) == 1
    assert [ready.group_id for ready in backend.count_chord_parts([failed, gone])] == [lost]
    assert backend.count_chord_parts([failed]) == []
    repeated = part(again, 1, task_id=failed.task_id)
    backend.store([repeated])
    (ready,) = backend.count_chord_parts([repeated])
    assert [each.status for each in ready.parts] == [states.SUCCESS, states.SUCCESS]
    assert None not in [decode(each) for each in ready.parts]
