"""Chords in Redis whose parts are counted from several sides: by our workers, by Celery's, and again from stored results."""

from collections.abc import Iterator

import pytest

from django_tasks import states
from django_tasks.messages import new_id
from django_tasks.result_backends import open_result_backend
from django_tasks.result_backends.backend import NewChord, ResultBackend
from django_tasks.result_backends.encoding import decode
from django_tasks.testing.result_probes import BODY, meta, part
from tests.privateservers import PrivateRedis, private_redis

pytestmark = pytest.mark.redis

_KEY = "celery-taskset-meta-"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[PrivateRedis]:
    with private_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=[True, False], ids=["ordered", "unordered"])
def backend(settings, server, request) -> Iterator[ResultBackend]:
    options = {"result_chord_ordered": request.param}
    settings.DJANGO_TASKS = {"RESULT_BACKEND": server.url, "RESULT_BACKEND_TRANSPORT_OPTIONS": options}
    backend = open_result_backend(server.url)
    yield backend
    backend.close()


def count_as_celery(server: PrivateRedis, each, backend) -> None:
    """Do what Celery's worker does with a part that is done: its text, its key, and no other."""
    entry, key = f'[1, "{each.task_id}", "{each.status}", {each.result}]', f"{_KEY}{each.group_id}.j"
    client = server.client()
    if backend._chords._ordered == "1":
        client.zadd(key, {entry: each.group_index})
    else:
        client.rpush(key, entry)
    client.close()


def test_parts_that_celerys_workers_counted_are_not_counted_again(backend, server):
    """Counting again from stored results must pass over parts that a Celery worker has counted, or the body would run early."""
    group_id = new_id()
    parts = [part(group_id, position) for position in range(3)]
    backend.open_chords([NewChord(group_id, 3, BODY, [each.task_id for each in parts])])
    backend.store(parts[:2])
    for each in parts[:2]:
        count_as_celery(server, each, backend)
    assert backend.recount_chords([group_id]) == []
    assert backend.recount_chords([group_id]) == []
    backend.store(parts[2:])
    (ready,) = backend.count_chord_parts(parts[2:])
    assert [decode(each) for each in ready.parts] == [0, 1, 2]


def test_a_part_counts_once_whatever_its_place(backend):
    """A part that was counted from its stored result, and whose message comes again and gives another value, must count once."""
    group_id = new_id()
    first, added = part(group_id, 0), part(group_id, 0)
    last = part(group_id, 1)
    backend.open_chords([NewChord(group_id, 2, BODY, [first.task_id, last.task_id])])
    # As a task adds to its chord: what it adds has the place of the task itself.
    backend.grow_chord(group_id, 1, [added.task_id])
    backend.store([added])
    assert backend.recount_chords([group_id]) == []
    again = meta(added.task_id, value="another value", group_id=group_id, group_index=0, chord=BODY)
    assert backend.count_chord_parts([again, first]) == []
    backend.store([first, last])
    (ready,) = backend.count_chord_parts([last])
    assert sorted(each.task_id for each in ready.parts) == sorted(each.task_id for each in (first, added, last))


def test_a_lost_part_of_celerys_chord_waits_for_one_that_brings_the_body(backend, server):
    """Of a part that was acknowledged early and died, only ids are left: nobody must be given the chord without its body."""
    group_id = new_id()
    client = server.client()
    client.set(f"{_KEY}{group_id}.s", 2)
    client.close()
    lost = meta(status=states.FAILURE, value=ValueError("lost"), group_id=group_id, chord={})
    backend.store([lost])
    assert backend.count_chord_parts([lost]) == []
    last = part(group_id, 1)
    backend.store([last])
    (ready,) = backend.count_chord_parts([last])
    assert ready.body == BODY
    assert sorted(each.status for each in ready.parts) == [states.FAILURE, states.SUCCESS]
