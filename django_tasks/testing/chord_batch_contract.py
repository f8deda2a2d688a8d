"""The part of the contract of result backends that is about many chords in one call: each must fare as it would alone."""
# ruff: noqa: S101  asserting is what a contract does

from collections.abc import Sequence
from functools import partial
from typing import Any

from django_tasks.messages import new_id
from django_tasks.result_backends.backend import NewChord, ReadyChord, ResultBackend, ResultMeta
from django_tasks.result_backends.encoding import decode
from django_tasks.testing.result_probes import BODY, ResultProbes, failure, meta


def body_of(group_id: str) -> dict[str, Any]:
    """Make a body that belongs to one chord."""
    return {**BODY, "options": {"task_id": f"body of {group_id}"}}


def part_of(group_id: str, position: int) -> ResultMeta:
    """Make a part with that body, which returned where it belongs."""
    return meta(value=[group_id, position], group_id=group_id, group_index=position, chord=body_of(group_id))


def failed_part_of(group_id: str, position: int) -> ResultMeta:
    """Make a part that failed."""
    return failure(error=ValueError(group_id), group_id=group_id, group_index=position, chord=body_of(group_id))


class ChordBatchContract(ResultProbes):
    """What must hold of batches of chords; ``ResultBackendContract`` has it, too."""

    @staticmethod
    def open_all(backend: ResultBackend, sizes: dict[str, int]) -> dict[str, list[ResultMeta]]:
        """Open chords in one call; return their parts, which are stored."""
        parts = {group_id: [part_of(group_id, position) for position in range(size)] for group_id, size in sizes.items()}
        backend.open_chords([NewChord(name, size, body_of(name), [each.task_id for each in parts[name]]) for name, size in sizes.items()])
        backend.store([each for some in parts.values() for each in some])
        return parts

    @staticmethod
    def check_complete(ready: Sequence[ReadyChord], parts: dict[str, list[ResultMeta]]) -> None:
        """Assert that these are those chords, each once, with its own body and parts."""
        assert sorted(each.group_id for each in ready) == sorted(parts)
        for each in ready:
            assert each.body == body_of(each.group_id)
            assert [decode(one) for one in each.parts] == [[each.group_id, position] for position in range(len(parts[each.group_id]))]
            assert [one.task_id for one in each.parts] == [one.task_id for one in parts[each.group_id]]

    def test_chords_of_every_kind_in_one_call(self, backend: ResultBackend) -> None:
        """Complete, incomplete, failed, unknown, claimed and closed chords in one call must each be counted for themselves."""
        kinds = ("complete", "incomplete", "failed", "claimed", "closed")
        names = {kind: [new_id() for _ in range(4)] for kind in kinds}
        parts = self.open_all(backend, {name: 2 + at for kind in kinds for at, name in enumerate(names[kind])})
        over = [each for kind in ("claimed", "closed") for name in names[kind] for each in parts[name]]
        assert len(backend.count_chord_parts(over)) == 8
        backend.close_chords(names["closed"])
        bad = {name: failed_part_of(name, 0) for name in names["failed"]}
        backend.store(list(bad.values()))
        batch = [
            *(each for name in names["complete"] for each in parts[name]),
            *(each for name in names["incomplete"] for each in parts[name][1:]),
            *bad.values(),
            *over,
            *(part_of(new_id(), 0) for _ in range(4)),
        ]
        ready = {each.group_id: each for each in backend.count_chord_parts(batch[::2] + batch[1::2])}
        self.check_complete([ready.pop(name) for name in names["complete"]], {name: parts[name] for name in names["complete"]})
        assert sorted(ready) == sorted(names["failed"])
        for name, each in ready.items():
            assert (each.body, [one.task_id for one in each.parts]) == (body_of(name), [bad[name].task_id])
            assert str(decode(each.parts[0])) == name
        rest = backend.count_chord_parts([parts[name][0] for name in names["incomplete"]] + batch)
        self.check_complete(rest, {name: parts[name] for name in names["incomplete"]})

    def test_a_batch_that_is_delivered_again(self, backend: ResultBackend) -> None:
        """Parts that come again among new ones, of their own chords and of others, must count once."""
        parts = self.open_all(backend, {new_id(): 4 for _ in range(6)})
        some = [each for of_one in parts.values() for each in of_one[:2]]
        assert backend.count_chord_parts(some) == backend.count_chord_parts([*some, *some]) == []
        one_more = [of_one[2] for of_one in list(parts.values())[:3]]
        assert backend.count_chord_parts(some + one_more) == []
        assert backend.count_chord_parts([of_one[2] for of_one in parts.values()]) == []
        ready = backend.count_chord_parts([of_one[3] for of_one in parts.values()] + some)
        self.check_complete(ready, parts)
        assert backend.count_chord_parts(some) == []

    def test_opening_many_again(self, backend: ResultBackend) -> None:
        """Chords that are open, complete or closed must stay as they are when they are opened again among new ones."""
        parts = self.open_all(backend, {new_id(): 2 for _ in range(3)})
        begun, complete, closed = parts
        backend.count_chord_parts(parts[begun][:1])
        assert len(backend.count_chord_parts([*parts[complete], *parts[closed]])) == 2
        backend.close_chords([closed])
        fresh = new_id()
        parts[fresh] = [part_of(fresh, position) for position in range(2)]
        backend.store(parts[fresh])
        chords = [NewChord(name, 2, body_of(name), [each.task_id for each in parts[name]]) for name in parts]
        backend.open_chords([*chords, *chords])
        backend.open_chords([])
        assert backend.count_chord_parts([*parts[complete], *parts[closed], parts[begun][0], parts[fresh][0]]) == []
        ready = backend.count_chord_parts([each for some in parts.values() for each in some])
        self.check_complete(ready, {name: parts[name] for name in (begun, fresh)})

    def test_the_shapes_of_headers(self, backend: ResultBackend) -> None:
        """A complete chord must bring the shape of its header where one was given; in a batch, each its own."""
        nested, other, plain, failed = (new_id() for _ in range(4))
        shapes = {name: [[name, None], [[[f"{name} group", None], []]]] for name in (nested, other, failed)}
        backend.open_chords([NewChord(name, 1, body_of(name), (), shapes.get(name)) for name in (nested, other, plain, failed)])
        parts = [part_of(nested, 0), part_of(other, 0), part_of(plain, 0), failed_part_of(failed, 0)]
        backend.store(parts)
        found = {ready.group_id: self.plain(ready.shape) for ready in backend.count_chord_parts(parts)}
        assert found == {**shapes, plain: None}

    def test_shapes_of_what_is_handed_out_again(self, backend: ResultBackend) -> None:
        """Who gets a chord after its first claimant has died must get the shape of the header, too."""
        if not self.CLAIMS:
            return
        with self.impatient():
            group_id = new_id()
            shape = [[group_id, None], [[["a group", None], []]]]
            backend.open_chords([NewChord(group_id, 1, body_of(group_id), (), shape)])
            only = part_of(group_id, 0)
            backend.store([only])
            assert len(backend.count_chord_parts([only])) == 1
            if type(backend).reclaim_chords is ResultBackend.reclaim_chords:
                (again,) = self.until(partial(backend.count_chord_parts, [only]))
            else:
                (again,) = self.until(partial(backend.reclaim_chords, 1000))
            assert self.plain(again.shape) == shape

    def test_reclaiming_many(self, backend: ResultBackend) -> None:
        """Of many chords that nobody closed each must be found once, up to the limit, with its own body and parts."""
        if type(backend).reclaim_chords is ResultBackend.reclaim_chords:
            return
        with self.impatient():
            parts = self.open_all(backend, {new_id(): 2 for _ in range(6)})
            assert len(backend.count_chord_parts([each for some in parts.values() for each in some])) == 6
            found = list(self.until(partial(backend.reclaim_chords, 4)))
            assert len(found) <= 4
            # Their claims lapse as quickly as those before them did.
            backend.close_chords([chord.group_id for chord in found])
        while more := backend.reclaim_chords(4):
            found += more
        self.check_complete(found, parts)

    def test_counting_many_again(self, backend: ResultBackend) -> None:
        """What was stored and not counted of many chords must be counted in one call, each for its own."""
        if type(backend).recount_chords is ResultBackend.recount_chords:
            return
        parts = self.open_all(backend, {new_id(): size for size in (1, 2, 3, 4)})
        backend.count_chord_parts([some[0] for some in parts.values()][1:])
        short = new_id()
        backend.open_chords([NewChord(short, 2, body_of(short), ["a", (lying := part_of(short, 1)).task_id])])
        backend.store([lying])
        self.check_complete(backend.recount_chords([*parts, short, new_id()]), parts)
        assert backend.recount_chords([*parts, short]) == []

    def test_batches_that_race(self, backend: ResultBackend) -> None:
        """Of workers that finish parts of the same chords at once, in whatever order, one must get each, and none wait for ever."""
        for _ in range(3):
            parts = self.open_all(backend, {new_id(): 4 for _ in range(12)})
            every = [each for some in parts.values() for each in some]
            found: list[ReadyChord] = []

            def count(mine: Sequence[ResultMeta], found: list[ReadyChord]) -> None:
                for start in range(0, len(mine), 8):
                    ready = backend.count_chord_parts(mine[start : start + 8])
                    found.extend(ready)
                    backend.close_chords([each.group_id for each in ready])

            # Every part is delivered twice, to workers that have other chords before and after it.
            self.all_at_once([partial(count, mine, found) for mine in (every[::2], every[1::2], every[::-2], every[-2::-2])])
            self.check_complete(found, parts)
