"""The part of the contract of result backends that is about chords: every part counts once, and the body goes to one caller."""
# ruff: noqa: S101  asserting is what a contract does

from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from django_tasks import clock, states
from django_tasks.messages import new_id
from django_tasks.result_backends.backend import ReadyChord, ResultBackend, ResultMeta
from django_tasks.result_backends.encoding import decode
from django_tasks.testing.result_probes import BODY, ResultProbes, meta, part


class ChordContract(ResultProbes):
    """What must hold of chords; ``ResultBackendContract`` has it, too."""

    def test_a_chord_is_complete_once(self, backend: ResultBackend) -> None:
        """The caller with the last part must get the body and all parts in the header's order; nobody else ever."""
        group_id, other = new_id(), new_id()
        backend.open_chord(group_id, 3, BODY)
        parts = [part(group_id, position) for position in (2, 0, 1)]
        backend.store(parts)
        assert backend.count_chord_parts(parts[:1]) == []
        assert backend.count_chord_parts(parts[1:2]) == []
        (ready,) = backend.count_chord_parts([parts[2], part(other, 0)])
        assert (ready.group_id, ready.body) == (group_id, BODY)
        assert [decode(each) for each in ready.parts] == [0, 1, 2]
        assert [each.task_id for each in ready.parts] == [parts[1].task_id, parts[2].task_id, parts[0].task_id]
        assert backend.count_chord_parts(parts) == []
        assert backend.count_chord_parts([part(group_id, 3)]) == []

    def test_a_part_counts_once(self, backend: ResultBackend) -> None:
        """A part that is delivered twice, in one batch or in several, must count once."""
        group_id = new_id()
        backend.open_chord(group_id, 2, BODY)
        one, other = part(group_id, 0), part(group_id, 1)
        backend.store([one, other])
        assert backend.count_chord_parts([one, one]) == []
        assert backend.count_chord_parts([one]) == []
        (ready,) = backend.count_chord_parts([other, one])
        assert [decode(each) for each in ready.parts] == [0, 1]

    def test_a_whole_chord_in_one_batch(self, backend: ResultBackend) -> None:
        """Parts of several chords in one batch must each count for their own."""
        ids = [new_id() for _ in range(3)]
        parts = [part(group_id, position) for position in range(2) for group_id in ids]
        for group_id in ids:
            backend.open_chord(group_id, 2, BODY)
        backend.store(parts)
        ready = backend.count_chord_parts(parts)
        assert sorted(each.group_id for each in ready) == sorted(ids)
        assert all([decode(each) for each in one.parts] == [0, 1] for one in ready)

    def test_opening_a_chord_twice(self, backend: ResultBackend) -> None:
        """Opening again (the task that sends the chord was delivered twice) must not start the count, or the body, again."""
        group_id = new_id()
        backend.open_chord(group_id, 2, BODY)
        parts = [part(group_id, 0), part(group_id, 1)]
        backend.store(parts)
        backend.count_chord_parts(parts[:1])
        backend.open_chord(group_id, 2, BODY)
        assert len(backend.count_chord_parts(parts[1:])) == 1
        backend.open_chord(group_id, 2, BODY)
        assert backend.count_chord_parts(parts) == []

    def test_a_chord_can_grow(self, backend: ResultBackend) -> None:
        """``grow_chord`` must make the body wait for the new parts, too; growing an unknown or complete one does nothing."""
        group_id = new_id()
        backend.open_chord(group_id, 1, BODY)
        backend.grow_chord(group_id, 1)
        backend.grow_chord(new_id(), 1)
        parts = [part(group_id, 0), part(group_id, None)]
        backend.store(parts)
        assert backend.count_chord_parts(parts[1:]) == []
        (ready,) = backend.count_chord_parts(parts[:1])
        assert [each.task_id for each in ready.parts] == [each.task_id for each in parts]
        backend.grow_chord(group_id, 1)
        assert backend.count_chord_parts([part(group_id, 2)]) == []

    def test_a_failed_part_ends_the_chord(self, backend: ResultBackend) -> None:
        """A failed or revoked part must make the chord ready at once, with that part; what comes later does nothing."""
        for status in (states.FAILURE, states.REVOKED):
            group_id = new_id()
            backend.open_chord(group_id, 3, BODY)
            good, bad = part(group_id, 0), meta(status=status, value=ValueError("bad"), group_id=group_id, group_index=1, chord=BODY)
            backend.store([good, bad])
            assert backend.count_chord_parts([good]) == []
            (ready,) = backend.count_chord_parts([bad])
            assert [each.status for each in ready.parts] == [states.SUCCESS, status]
            assert isinstance(decode(ready.parts[1]), ValueError)
            assert backend.count_chord_parts([bad, part(group_id, 2)]) == []

    def test_unready_parts_do_not_count(self, backend: ResultBackend) -> None:
        """A part that is to be retried must not count."""
        group_id = new_id()
        backend.open_chord(group_id, 1, BODY)
        task_id = new_id()
        assert backend.count_chord_parts([meta(task_id, states.RETRY, {}, group_id=group_id, group_index=0, chord=BODY)]) == []
        done = part(group_id, 0, task_id=task_id)
        backend.store([done])
        assert len(backend.count_chord_parts([done])) == 1

    def test_a_part_whose_result_is_gone(self, backend: ResultBackend) -> None:
        """A part whose result was deleted meanwhile must not make the list shorter: it stands there, good or as a FAILURE."""
        group_id = new_id()
        backend.open_chord(group_id, 2, BODY)
        parts = [part(group_id, 0), part(group_id, 1)]
        backend.store(parts)
        backend.count_chord_parts(parts[:1])
        backend.forget([parts[0].task_id])
        (ready,) = backend.count_chord_parts(parts[1:])
        assert [each.task_id for each in ready.parts] == [each.task_id for each in parts]
        assert ready.parts[0].status in {states.SUCCESS, states.FAILURE}

    def test_parts_that_race(self, backend: ResultBackend) -> None:
        """Of workers that finish parts at the same moment exactly one must get the chord, with every part."""
        for _ in range(5):
            group_id = new_id()
            backend.open_chord(group_id, 8, BODY)
            parts = [part(group_id, position) for position in range(8)]
            found: list[ReadyChord] = []

            def count(mine: Sequence[ResultMeta], found: list[ReadyChord]) -> None:
                for each in mine:
                    backend.store([each])
                    found.extend(backend.count_chord_parts([each]))

            # Two threads share each half: every part is delivered twice.
            self.all_at_once([partial(count, mine, found) for mine in (parts[:4], parts[4:], parts[3::-1], parts[:3:-1])])
            assert [[decode(each) for each in ready.parts] for ready in found] == [list(range(8))]

    def test_expiry_spares_what_a_chord_needs(self, backend: ResultBackend) -> None:
        """The results of a chord's parts must stay as long as the chord waits for others."""
        if not self.EXPIRES:
            return
        group_id, before = new_id(), clock.now() - timedelta(hours=1)
        backend.open_chord(group_id, 2, BODY)
        early = part(group_id, 0, date_done=before - timedelta(hours=1))
        late = part(group_id, 1)
        backend.store([early])
        backend.count_chord_parts([early])
        while backend.expire(before, limit=1000):
            pass
        backend.store([late])
        (ready,) = backend.count_chord_parts([late])
        assert [decode(each) for each in ready.parts] == [0, 1]
