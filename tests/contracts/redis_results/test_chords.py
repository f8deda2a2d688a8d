"""Chords counted in Redis: by us, by Celery, and by both."""

import json
from dataclasses import replace

import pytest
from celery.app.task import Context

from django_tasks import clock, states
from django_tasks.messages import new_id
from django_tasks.result_backends.backend import NewChord
from django_tasks.result_backends.encoding import decode
from django_tasks.testing.result_probes import BODY, part
from tests.contracts.redis_results.opening import opened
from tests.processes import wait_until

pytestmark = [
    pytest.mark.redis,
    # Celery's own.
    pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning"),
]


def test_the_keys_of_a_chord_are_celerys(backend, client):
    """Size, growth, parts, what was counted and the claim must lie where Celery's workers look for them."""
    group_id = new_id()
    key = f"celery-taskset-meta-{group_id}"
    backend.open_chords([NewChord(group_id, 2, BODY)])
    backend.grow_chord(group_id, 1)
    parts = [part(group_id, 0), part(group_id, 1), part(group_id, None)]
    backend.store(parts)
    assert backend.count_chord_parts(parts[:2]) == []
    assert (client.get(f"{key}.s"), client.get(f"{key}.t"), client.get(f"{key}.c")) == ("2", "1", None)
    assert [json.loads(entry) for entry in client.zrange(f"{key}.j", 0, -1)] == [
        [1, parts[0].task_id, "SUCCESS", 0],
        [1, parts[1].task_id, "SUCCESS", 1],
    ]
    assert client.smembers(f"{key}.d") == {f"{parts[0].task_id}:0", f"{parts[1].task_id}:1"}
    (ready,) = backend.count_chord_parts(parts[2:])
    assert [decode(each) for each in ready.parts] == [0, 1, None]
    assert client.get(f"{key}.c") not in {None, "done"}
    assert all(client.ttl(f"{key}{suffix}") > 3600 for suffix in (".s", ".t", ".j", ".d"))
    backend.close_chords([group_id])
    assert client.get(f"{key}.c") == "done"
    assert client.keys(f"{key}*") == [f"{key}.c"]
    # Nothing else is left, either.
    assert client.keys("django-tasks*") == []


@pytest.mark.parametrize("ordered", [True, False])
def test_a_chord_that_both_count(settings, shared, celery, ordered):
    """Parts that Celery's worker counts and parts that we count must make one chord, completed once by either."""
    options = {"result_chord_ordered": ordered}
    celery.conf.result_backend_transport_options = options
    sent = []
    celery.amqp._retry_publish = lambda _publish, results: sent.append(results)
    with opened(settings, shared.url, RESULT_BACKEND_TRANSPORT_OPTIONS=options) as backend:
        for order in ("ttoo", "otot", "toto", "oott"):
            group_id = new_id()
            celery.backend.set_chord_size(group_id, 4)
            ready = []
            for position, who in enumerate(order):
                mine = part(group_id, position)
                if who == "o":
                    backend.store([mine])
                    ready += backend.count_chord_parts([mine, mine])
                    backend.close_chords([each.group_id for each in ready])
                else:
                    request = Context(id=mine.task_id, group=group_id, group_index=position, chord=BODY)
                    for _ in range(2):
                        celery.backend.on_chord_part_return(request, states.SUCCESS, position)
            found = [[decode(each) for each in chord.parts] for chord in ready] + sent
            assert found == [[0, 1, 2, 3]], order
            sent.clear()
            # Late, by either.
            late = part(group_id, 3)
            assert backend.count_chord_parts([late]) == []
            celery.backend.on_chord_part_return(Context(id=late.task_id, group=group_id, group_index=3, chord=BODY), states.SUCCESS, 3)
            assert sent == []


def test_celerys_claim_is_respected(backend, client):
    """A chord whose body a Celery worker is sending must not be handed out, until that one's claim has lapsed."""
    group_id = new_id()
    key = f"celery-taskset-meta-{group_id}"
    backend.open_chords([NewChord(group_id, 1, BODY)])
    stored = part(group_id, 0)
    client.set(f"{key}.c", "theirs", px=300)
    assert backend.count_chord_parts([stored]) == []
    wait_until(lambda: backend.count_chord_parts([stored]), "the claim to lapse")


def test_parts_in_another_serializer(backend):
    """A part whose result is pickled, or fails so, must reach the body as it was."""
    group_id = new_id()
    backend.open_chords([NewChord(group_id, 2, BODY)])
    pickled = {"content_type": "application/x-python-serialize", "content_encoding": "base64", "result": "gASVBwAAAAAAAACPlChLAZAu"}
    parts = [part(group_id, 0, **pickled), part(group_id, 1)]
    (ready,) = backend.count_chord_parts(parts)
    assert decode(ready.parts[0], accept=["pickle"]) == {1}


def test_reclaiming_leaves_others_alone(backend, client):
    """What was claimed by us, lapsed, and was closed or taken by a Celery worker meanwhile, must not be reclaimed."""
    with backend_impatient():
        ids = [new_id() for _ in range(3)]
        for group_id in ids:
            backend.open_chords([NewChord(group_id, 1, BODY)])
            assert len(backend.count_chord_parts([part(group_id, 0)])) == 1
        key = "celery-taskset-meta-"
        wait_until(lambda: not client.exists(*(f"{key}{group_id}.c" for group_id in ids)), "the claims to lapse")
        client.set(f"{key}{ids[0]}.c", "theirs", ex=60)
        client.delete(f"{key}{ids[1]}.s")
        (ready,) = backend.reclaim_chords(10)
        assert ready.group_id == ids[2]


def backend_impatient():
    """Let claims lapse within a second."""
    from django_tasks.testing.result_probes import ResultProbes

    return ResultProbes.impatient()


def test_the_shape_of_a_header_lives_as_long_as_its_chord(settings, shared, client):
    """However short RESULT_EXPIRES is: with the shape gone, the body would be called with another list."""
    with opened(settings, shared.url, RESULT_EXPIRES=30) as backend:
        group_id = new_id()
        key = f"celery-taskset-meta-{group_id}"
        backend.store_group(group_id, [[group_id, None], []])
        assert client.ttl(key) <= 30
        backend.open_chords([NewChord(group_id, 2, BODY, ["a", "b"])])
        assert client.ttl(key) > 3600
        client.expire(key, 5)
        backend.count_chord_parts([part(group_id, 0)])
        assert client.ttl(key) > 3600
        assert all(client.ttl(f"{key}{suffix}") > 3600 for suffix in (".s", ".o", ".j", ".d"))


def test_open_chords_that_are_gone_are_forgotten(backend, client):
    """A chord that Celery's worker has ended, or whose keys were evicted, must not be listed, and its entry must go."""
    ids = [new_id() for _ in range(250)]
    for group_id in ids:
        backend.open_chords([NewChord(group_id, 2, BODY, ["a", "b"])])
    for group_id in ids[:200]:
        client.delete(f"celery-taskset-meta-{group_id}.s")
    later = clock.after(60)
    # Several may have been opened in the same millisecond.
    assert {each.group_id for each in backend.waiting_chords(later, limit=1000)} == set(ids[200:])
    assert client.zcard("django-tasks-chords") == 50
    assert client.keys(f"celery-taskset-meta-{ids[0]}*") == []
    assert len(backend.waiting_chords(later, limit=3)) == 3


def test_a_batch_of_chords_is_one_call(backend, client):
    """However many chords there are in a batch, each step of their lives must be one call of the server."""

    def calls(work):
        before = client.info("commandstats").get("cmdstat_evalsha", {"calls": 0})["calls"]
        work()
        return client.info("commandstats")["cmdstat_evalsha"]["calls"] - before

    def lives(number):
        ids = [new_id() for _ in range(number)]
        parts = {group_id: [part(group_id, position) for position in range(2)] for group_id in ids}
        chords = [NewChord(group_id, 2, BODY, [each.task_id for each in parts[group_id]], [[group_id, None], []]) for group_id in ids]
        bare = [replace(some[1], chord={}) for some in parts.values()]
        return [
            calls(lambda: backend.open_chords(chords)),
            calls(lambda: backend.count_chord_parts([some[0] for some in parts.values()])),
            # These don't bring the bodies.
            calls(lambda: backend.count_chord_parts(bare)),
            calls(lambda: backend.close_chords(ids)),
        ]

    lives(1)
    assert lives(2) == lives(40) == [1, 1, 2, 1]
