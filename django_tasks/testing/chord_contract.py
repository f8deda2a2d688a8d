"""The part of the contract of result backends that is about chords: every part counts once, and the body goes to one caller."""
# ruff: noqa: S101  asserting is what a contract does

import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from django.conf import settings
from django.test import override_settings

from django_tasks import clock, states
from django_tasks.messages import new_id
from django_tasks.result_backends.backend import NewChord, ReadyChord, ResultBackend, ResultMeta
from django_tasks.result_backends.encoding import decode
from django_tasks.testing.result_probes import BODY, ResultProbes, meta, part


class ChordContract(ResultProbes):
    """What must hold of chords; ``ResultBackendContract`` has it, too."""

    def test_a_chord_is_complete_once(self, backend: ResultBackend) -> None:
        """The caller with the last part must get the body and all parts in the header's order; nobody else ever."""
        group_id, other = new_id(), new_id()
        backend.check_chords()
        backend.open_chords([NewChord(group_id, 3, BODY)])
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
        backend.open_chords([NewChord(group_id, 2, BODY)])
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
            backend.open_chords([NewChord(group_id, 2, BODY)])
        backend.store(parts)
        ready = backend.count_chord_parts(parts)
        assert sorted(each.group_id for each in ready) == sorted(ids)
        assert all([decode(each) for each in one.parts] == [0, 1] for one in ready)

    def test_opening_a_chord_twice(self, backend: ResultBackend) -> None:
        """Opening again (the task that sends the chord was delivered twice) must not start the count, or the body, again."""
        group_id = new_id()
        backend.open_chords([NewChord(group_id, 2, BODY)])
        parts = [part(group_id, 0), part(group_id, 1)]
        backend.store(parts)
        backend.count_chord_parts(parts[:1])
        backend.open_chords([NewChord(group_id, 2, BODY)])
        assert len(backend.count_chord_parts(parts[1:])) == 1
        backend.open_chords([NewChord(group_id, 2, BODY)])
        assert backend.count_chord_parts(parts) == []

    def test_a_chord_can_grow(self, backend: ResultBackend) -> None:
        """``grow_chord`` must make the body wait for the new parts, too; growing an unknown or complete one does nothing."""
        group_id = new_id()
        backend.open_chords([NewChord(group_id, 1, BODY)])
        backend.grow_chord(group_id, 1)
        backend.grow_chord(new_id(), 1)
        parts = [part(group_id, 0), part(group_id, None)]
        backend.store(parts)
        assert backend.count_chord_parts(parts[1:]) == []
        (ready,) = backend.count_chord_parts(parts[:1])
        assert [each.task_id for each in ready.parts] == [each.task_id for each in parts]
        backend.grow_chord(group_id, 1)
        assert backend.count_chord_parts([part(group_id, 2)]) == []

    def test_a_chords_size_may_be_known_late(self, backend: ResultBackend) -> None:
        """A header that is still being made expects more parts than there are, and shrinks to its size before the last ones leave."""
        group_id = new_id()
        backend.open_chords([NewChord(group_id, 1 << 30, BODY)])
        parts = [part(group_id, number) for number in range(3)]
        backend.store(parts)
        assert backend.count_chord_parts(parts[:2]) == []
        backend.grow_chord(group_id, 3 - (1 << 30))
        (ready,) = backend.count_chord_parts(parts[2:])
        assert [each.task_id for each in ready.parts] == [each.task_id for each in parts]

    def test_a_failed_part_ends_the_chord(self, backend: ResultBackend) -> None:
        """A failed or revoked part must make the chord ready at once, with that part; what comes later does nothing."""
        for status in (states.FAILURE, states.REVOKED):
            group_id = new_id()
            backend.open_chords([NewChord(group_id, 3, BODY)])
            good, bad = part(group_id, 0), meta(status=status, value=ValueError("bad"), group_id=group_id, group_index=1, chord=BODY)
            backend.store([good, bad])
            assert backend.count_chord_parts([good]) == []
            (ready,) = backend.count_chord_parts([bad])
            assert [each.status for each in ready.parts] == [states.SUCCESS, status]
            assert isinstance(decode(ready.parts[1]), ValueError)
            assert backend.count_chord_parts([bad, part(group_id, 2)]) == []

    def test_a_part_that_fails_when_it_runs_again(self, backend: ResultBackend) -> None:
        """A part that was done well, and is delivered again and fails then, must not end the chord: its success is final."""
        group_id, task_id = new_id(), new_id()
        backend.open_chords([NewChord(group_id, 2, BODY)])
        good = part(group_id, 0, task_id=task_id)
        bad = meta(task_id, states.FAILURE, ValueError("bad"), group_id=group_id, group_index=0, chord=BODY)
        for outcome in (good, bad):
            backend.store([outcome])
            assert backend.count_chord_parts([outcome]) == []
        last = part(group_id, 1)
        backend.store([last])
        (ready,) = backend.count_chord_parts([last])
        assert [each.status for each in ready.parts] == [states.SUCCESS, states.SUCCESS]

    def test_a_part_that_brings_no_body(self, backend: ResultBackend) -> None:
        """The body must be known without its parts: of a part whose message is lost, only its id and its group may be left."""
        group_id = new_id()
        backend.open_chords([NewChord(group_id, 2, BODY)])
        lost = meta(status=states.FAILURE, value=ValueError("bad"), group_id=group_id, chord={})
        backend.store([lost])
        (ready,) = backend.count_chord_parts([lost])
        assert (ready.body, ready.parts[0].task_id) == (BODY, lost.task_id)

    def test_a_body_of_another_serializer(self, backend: ResultBackend) -> None:
        """A body that is sent with another serializer must be kept by that one, whether its parts bring it or not."""
        kwargs = {"within": timedelta(days=1), "by": {1: (2, 3)}}
        own = getattr(settings, "DJANGO_TASKS", {})
        with override_settings(DJANGO_TASKS={**own, "ACCEPT_CONTENT": ["json", "pickle"]}):
            body = {**BODY, "kwargs": kwargs, "options": {**BODY["options"], "serializer": "pickle"}}
            for brought in (body, {}):
                group_id = new_id()
                backend.open_chords([NewChord(group_id, 1, body)])
                done = meta(group_id=group_id, group_index=0, chord=brought)
                backend.store([done])
                (ready,) = backend.count_chord_parts([done])
                assert ready.body == body

    # ---- claims

    def test_a_claim_that_lapses(self, backend: ResultBackend) -> None:
        """Where the caller doesn't close the chord in time, counting a part again must hand it out again, to one caller."""
        if not self.CLAIMS:
            return
        with self.impatient():
            good, failed = new_id(), new_id()
            parts = [part(good, 0), part(good, 1), meta(status=states.FAILURE, value=ValueError("bad"), group_id=failed, chord=BODY)]
            backend.open_chords([NewChord(good, 2, BODY)])
            backend.open_chords([NewChord(failed, 2, BODY)])
            backend.store(parts)
            for last in (parts[0], parts[2]):
                first = backend.count_chord_parts(parts)
                assert {ready.group_id for ready in first} <= {good, failed}
                (again,) = self.until(partial(backend.count_chord_parts, [last]))
                assert (again.group_id, again.body) == (last.group_id, BODY)
                assert [each.task_id for each in again.parts] == [each.task_id for each in parts if each.group_id == last.group_id]
                assert [decode(each) for each in again.parts if each.status == states.SUCCESS] == [0, 1] * (last is parts[0])
                assert backend.count_chord_parts([last]) == []

    def test_closing_ends_a_chord(self, backend: ResultBackend) -> None:
        """Of a chord that was closed nobody must hear again, however long ago it was claimed."""
        if not self.CLAIMS:
            return
        with self.impatient():
            closed, witness = new_id(), new_id()
            parts = [part(closed, 0), part(witness, 0)]
            for each in parts:
                backend.open_chords([NewChord(each.group_id or "", 1, BODY)])
            backend.store(parts)
            assert [len(backend.count_chord_parts([each])) for each in parts] == [1, 1]
            backend.close_chords([closed, new_id()])
            backend.close_chords([])
            # Claimed later than the other one.
            assert self.until(partial(backend.count_chord_parts, parts[1:]))[0].group_id == witness
            assert backend.count_chord_parts(parts[:1]) == []
            backend.open_chords([NewChord(closed, 1, BODY)])
            backend.grow_chord(closed, 1)
            assert backend.count_chord_parts(parts[:1]) == []
            backend.close_chords([closed, witness])
            assert backend.count_chord_parts(parts) == []

    def test_a_part_counts_once_across_claims(self, backend: ResultBackend) -> None:
        """Parts that are counted again after a claim has lapsed must be in the list once."""
        if not self.CLAIMS:
            return
        with self.impatient():
            group_id = new_id()
            parts = [part(group_id, position) for position in range(3)]
            backend.open_chords([NewChord(group_id, 3, BODY)])
            backend.store(parts)
            assert backend.count_chord_parts([parts[0], parts[1], parts[0]]) == []
            assert len(backend.count_chord_parts(parts)) == 1
            (again,) = self.until(partial(backend.count_chord_parts, [parts[2], parts[0]]))
            assert [each.task_id for each in again.parts] == [each.task_id for each in parts]

    def test_a_lapsed_claim_goes_to_one_caller(self, backend: ResultBackend) -> None:
        """Of several that count parts again after a claim has lapsed, one must get each chord, and the others none."""
        if not self.CLAIMS:
            return
        with self.impatient():
            ids, witness = [new_id() for _ in range(5)], new_id()
            parts = [part(group_id, position) for group_id in ids for position in range(2)]
            for group_id in ids:
                backend.open_chords([NewChord(group_id, 2, BODY)])
            backend.open_chords([NewChord(witness, 1, BODY)])
            backend.store(parts)
            assert len(backend.count_chord_parts(parts)) == len(ids)
            last = part(witness, 0)
            backend.store([last])
            backend.count_chord_parts([last])
            self.until(partial(backend.count_chord_parts, [last]))
        found: list[ReadyChord] = []

        def count(mine: Sequence[ResultMeta]) -> None:
            found.extend(ready for each in mine for ready in backend.count_chord_parts([each]))

        self.all_at_once([partial(count, mine) for mine in (parts, parts[::-1], parts[::2], parts[1::2])])
        assert sorted(ready.group_id for ready in found) == sorted(ids)

    def test_reclaiming_what_nobody_closed(self, backend: ResultBackend) -> None:
        """Where a backend looks for lapsed claims itself, each chord must be found once, with its body and parts; no other."""
        if type(backend).reclaim_chords is ResultBackend.reclaim_chords:
            assert backend.reclaim_chords(10) == []
            return
        with self.impatient():
            left, closed, waiting = new_id(), new_id(), new_id()
            parts = [part(group_id, position) for group_id in (left, closed) for position in (1, 0)]
            for group_id in (left, closed, waiting):
                backend.open_chords([NewChord(group_id, 2, BODY)])
            backend.store(parts)
            assert len(backend.count_chord_parts([*parts, part(waiting, 0)])) == 2
            assert backend.reclaim_chords(1000) == []
            backend.close_chords([closed])
            (ready,) = self.until(partial(backend.reclaim_chords, 1000))
            assert (ready.group_id, ready.body) == (left, BODY)
            assert [decode(each) for each in ready.parts] == [0, 1]
            assert backend.reclaim_chords(1000) == []
            backend.close_chords([left])
            assert backend.count_chord_parts(parts) == []

    # ---- counting again

    def recounts(self, backend: ResultBackend) -> bool:
        """Whether the backend finds what was stored and not counted; one that doesn't must say that there is nothing."""
        if type(backend).recount_chords is not ResultBackend.recount_chords:
            return True
        assert backend.recount_chords([new_id()]) == []
        return False

    def test_what_was_stored_and_not_counted(self, backend: ResultBackend) -> None:
        """Counting again must find results whose process died before it counted them, in their places, and complete the chord."""
        if not self.recounts(backend):
            return
        group_id, other = new_id(), new_id()
        parts = [part(group_id, position) for position in range(3)]
        backend.open_chords([NewChord(group_id, 3, BODY, [each.task_id for each in parts])])
        strangers = [part(other, 0), part(other, 1)]
        backend.open_chords([NewChord(other, 3, BODY, [each.task_id for each in strangers])])
        backend.store([*parts[:2], *strangers])
        backend.count_chord_parts(parts[1:2])
        assert backend.recount_chords([group_id, new_id()]) == []
        backend.store(parts[2:])
        (ready,) = backend.recount_chords([group_id])
        assert (ready.group_id, ready.body) == (group_id, BODY)
        assert [decode(each) for each in ready.parts] == [0, 1, 2]
        assert [each.task_id for each in ready.parts] == [each.task_id for each in parts]
        # It is the caller's now, and then nobody's.
        assert backend.recount_chords([group_id]) == backend.count_chord_parts(parts) == []
        backend.close_chords([group_id])
        assert backend.recount_chords([group_id]) == backend.recount_chords([]) == []

    def test_counting_again_counts_nothing_twice(self, backend: ResultBackend) -> None:
        """What was counted before must count once however often it is counted again; a task that still runs not at all."""
        if not self.recounts(backend):
            return
        group_id = new_id()
        done, running = part(group_id, 0), meta(status=states.STARTED, value={}, group_id=group_id, group_index=1, chord=BODY)
        backend.open_chords([NewChord(group_id, 2, BODY, [done.task_id, running.task_id])])
        backend.store([done, running])
        backend.count_chord_parts([done])
        for _ in range(2):
            assert backend.recount_chords([group_id]) == []
        last = part(group_id, 1, task_id=running.task_id)
        backend.store([last])
        (ready,) = backend.count_chord_parts([done, last])
        assert [decode(each) for each in ready.parts] == [0, 1]

    def test_counting_again_finds_a_failure(self, backend: ResultBackend) -> None:
        """A part whose failure was stored and not counted must end the chord."""
        if not self.recounts(backend):
            return
        group_id = new_id()
        bad = meta(status=states.FAILURE, value=ValueError("bad"), group_id=group_id, group_index=1, chord=BODY)
        backend.open_chords([NewChord(group_id, 3, BODY, [new_id(), bad.task_id, new_id()])])
        backend.store([bad])
        (ready,) = backend.recount_chords([group_id])
        assert [(each.task_id, each.status) for each in ready.parts] == [(bad.task_id, states.FAILURE)]

    def test_waiting_chords(self, backend: ResultBackend) -> None:
        """A backend that can look for them must list the chords that wait for parts, the oldest first; not those that have ended."""
        if type(backend).waiting_chords is ResultBackend.waiting_chords:
            assert backend.waiting_chords(clock.now(), limit=10) == backend.find_chords([new_id()]) == []
            return
        ids = [new_id() for _ in range(4)]
        parts = {group_id: [part(group_id, position) for position in range(2)] for group_id in ids}
        for group_id in ids:
            backend.open_chords([NewChord(group_id, 2, BODY, [each.task_id for each in parts[group_id]])])
            time.sleep(0.002)
        first, second, claimed, closed = ids
        for group_id in (claimed, closed):
            backend.store(parts[group_id])
            assert len(backend.count_chord_parts(parts[group_id])) == 1
        backend.close_chords([closed])
        backend.count_chord_parts(parts[second][:1])
        backend.grow_chord(second, 1, [new_id()])
        soon = clock.now() + timedelta(minutes=1)
        waiting = [each for each in backend.waiting_chords(soon, limit=1000) if each.group_id in ids]
        assert [(each.group_id, each.size, each.counted, each.body) for each in waiting] == [(first, 2, 0, BODY), (second, 3, 1, BODY)]
        assert all(abs(each.opened - clock.now()) < timedelta(minutes=1) for each in waiting)
        assert len(backend.waiting_chords(soon, limit=1)) == 1
        assert backend.waiting_chords(clock.now() - timedelta(hours=1), limit=1000) == []
        assert sorted(backend.find_chords([*ids, new_id()]), key=lambda each: each.opened) == waiting
        assert backend.find_chords([]) == []

    def test_growing_by_known_parts(self, backend: ResultBackend) -> None:
        """A chord must expect a part once that is added twice, since the task that adds it was delivered twice."""
        group_id = new_id()
        backend.open_chords([NewChord(group_id, 1, BODY)])
        first, added = part(group_id, 0), part(group_id, None)
        for _ in range(2):
            backend.grow_chord(group_id, 1, [added.task_id])
        backend.grow_chord(new_id(), 1, [added.task_id])
        backend.store([first, added])
        assert backend.count_chord_parts([first]) == []
        (ready,) = backend.count_chord_parts([added])
        assert [each.task_id for each in ready.parts] == [first.task_id, added.task_id]

    # ---- parts

    def test_unready_parts_do_not_count(self, backend: ResultBackend) -> None:
        """A part that is to be retried must not count."""
        group_id = new_id()
        backend.open_chords([NewChord(group_id, 1, BODY)])
        task_id = new_id()
        assert backend.count_chord_parts([meta(task_id, states.RETRY, {}, group_id=group_id, group_index=0, chord=BODY)]) == []
        done = part(group_id, 0, task_id=task_id)
        backend.store([done])
        assert len(backend.count_chord_parts([done])) == 1

    def test_a_part_whose_result_is_gone(self, backend: ResultBackend) -> None:
        """A part whose result was deleted meanwhile must not make the list shorter: it stands there, good or as a FAILURE."""
        group_id = new_id()
        backend.open_chords([NewChord(group_id, 2, BODY)])
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
            backend.open_chords([NewChord(group_id, 8, BODY)])
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
        if not (self.EXACT and self.EXPIRES):
            return
        group_id, before = new_id(), clock.now() - timedelta(hours=1)
        backend.open_chords([NewChord(group_id, 2, BODY)])
        early = part(group_id, 0, date_done=before - timedelta(hours=1))
        late = part(group_id, 1)
        backend.store([early])
        backend.count_chord_parts([early])
        while backend.expire(before, limit=1000):
            pass
        backend.store([late])
        (ready,) = backend.count_chord_parts([late])
        assert [decode(each) for each in ready.parts] == [0, 1]

    def test_expiry_spares_the_shape_of_a_header(self, backend: ResultBackend) -> None:
        """The result tuples of a header with groups in it must stay as long as the chord waits for parts, and may go then."""
        if not (self.EXACT and self.EXPIRES):
            return
        group_id, later = new_id(), clock.now() + timedelta(hours=1)
        shape = [[group_id, None], [[["a", None], None]]]
        backend.store_group(group_id, shape)
        backend.open_chords([NewChord(group_id, 1, BODY)])
        while backend.expire(later, limit=1000):
            pass
        assert self.plain(backend.fetch_group(group_id)) == shape
        only = part(group_id, 0)
        backend.store([only])
        assert len(backend.count_chord_parts([only])) == 1
        backend.close_chords([group_id])
