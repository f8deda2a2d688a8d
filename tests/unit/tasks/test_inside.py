"""What a task may do while it runs: states of its own, progress, other work in its place, more parts of its chord."""

import pytest

from django_tasks.context import running
from django_tasks.tasks import shared_task
from tests.unit.workflow_world import request_for

pytestmark = pytest.mark.usefixtures("own_registry")


class TestFromInside:
    def test_update_state_stores_at_once(self, world):
        """A state of one's own is stored with its details, at once."""

        @shared_task(name="t.progress", bind=True)
        def progress(self):
            self.update_state(state="PROGRESS", meta={"done": 3})
            self.update_state("other-id", "SEEN")
            return world.state(self.request), world.results.metas["other-id"].status

        request = request_for(progress, args=(1,))
        with running(request):
            assert progress.run() == ("PROGRESS", "SEEN")
        meta = world.results.metas["the-id"]
        assert (meta.result, meta.name, meta.args) == ('{"done":3}', "t.progress", "[1]")

    def test_update_state_without_a_task(self, world, add):
        """In a direct call there is no state to update."""
        add.update_state(state="PROGRESS")
        assert not world.results.metas

    def test_update_state_with_a_traceback(self, world, add):
        """A task that stores its own failure says where it happened."""
        add.update_state("other", "FAILURE", {"exc_type": "ValueError", "exc_message": ["x"]}, traceback="line 1")
        assert (world.results.metas["other"].status, world.results.metas["other"].traceback) == ("FAILURE", "line 1")

    def test_update_state_of_a_pushed_request(self, world, add):
        """What counts is the id."""
        add.push_request(id="pushed")
        try:
            add.update_state(state="CUSTOM")
        finally:
            add.pop_request()
        assert world.results.metas["pushed"].status == "CUSTOM"

    def test_update_state_needs_a_state(self, world, add):
        """A state is what update_state is for."""
        with running(request_for(add)), pytest.raises(TypeError, match="needs a state"):
            add.update_state(meta=1)

    def test_progress_is_throttled(self, world):
        """Of calls within a quarter of a second the first is stored, and the one that reaches the end."""
        stored = []

        @shared_task(name="t.loop", bind=True)
        def loop(self):
            for done in range(1000):
                self.progress(done, 1000, f"row {done}")
                stored.append(world.results.metas["the-id"].result)
            self.progress(1000, 1000)
            return world.state(self.request)

        request = request_for(loop)
        with running(request):
            assert loop.run() == "PROGRESS"
        assert len(set(stored)) < 10
        assert stored[0] == '{"done":0,"total":1000,"message":"row 0"}'
        assert world.results.metas["the-id"].result == '{"done":1000,"total":1000,"message":""}'
        assert request.stored_own_state

    def test_progress_without_a_total(self, world):
        """How much there is to do need not be known."""

        @shared_task(name="t.endless", bind=True)
        def endless(self):
            self.progress(7)

        with running(request_for(endless)):
            endless.run()
        assert world.results.metas["the-id"].result == '{"done":7,"total":null,"message":""}'

    @pytest.mark.parametrize("numbers", [(-1, 5), ("3", 5), (float("nan"), None), (1, -5)])
    def test_progress_of_no_numbers(self, world, add, numbers):
        """What is no progress is said at once."""
        with running(request_for(add)), pytest.raises(ValueError, match="progress"):
            add.progress(*numbers)
        assert not world.results.metas

    def test_progress_of_a_direct_call(self, world, add):
        """In a direct call nobody watches."""
        add.progress(1, 2)
        assert not world.results.metas

    def test_replace(self, world, add):
        """Another workflow runs under the task's id, with its callbacks, and before its following steps."""

        @shared_task(name="t.replaced", bind=True)
        def replaced(self, x):
            return self.replace(add.s(x, 10) | add.s(100))

        seen = []

        @shared_task(name="t.after")
        def after(value):
            seen.append(value)
            return value

        first = replaced.s(1)
        first.link(after.s())
        result = (first | add.s(1000)).apply_async()
        world.run()
        assert world.value(result) == 1111
        assert world.value(result.parent) == 111
        assert seen == [111]
        assert [m.replaced_task_nesting for m in world.ran if m.task == "t.add"] == [1, 1, 1]

    def test_replace_in_a_chord(self, world, add):
        """A part of a chord may replace itself; the chord waits for what runs instead."""

        @shared_task(name="t.part", bind=True)
        def part(self, x):
            return self.replace(add.s(x, 1) | add.s(1))

        from django_tasks.canvas import chord

        @shared_task(name="t.sum")
        def total(values):
            return sum(values)

        result = chord([part.s(1), add.s(10, 10)], total.s()).apply_async()
        world.run()
        assert world.value(result) == 23

    def test_replace_with_a_group(self, world, add):
        """A group in the task's place gives the list of its results."""
        import django_tasks.builtins  # noqa: F401
        from django_tasks.canvas import group

        @shared_task(name="t.fan", bind=True)
        def fan(self):
            return self.replace(group(add.s(1, 1), add.s(2, 2)))

        result = fan.delay()
        world.run()
        assert world.value(result) == [2, 4]
        assert fan.apply().get() == [2, 4]

    def test_add_to_chord(self, world, add):
        """A part of a chord may add parts to it; their results are among the body's."""

        @shared_task(name="t.grow", bind=True)
        def grow(self, x):
            self.add_to_chord(add.s(x, 5))
            return x

        from django_tasks.canvas import chord

        @shared_task(name="t.list")
        def listed(values):
            return sorted(values)

        result = chord([grow.s(1), add.s(10, 10)], listed.s()).apply_async()
        world.run()
        assert world.value(result) == [1, 6, 20]

    def test_add_to_chord_outside_of_one(self, world, add):
        """Without a chord nothing can be added to it."""
        with running(request_for(add)), pytest.raises(ValueError, match="no part of a chord"):
            add.add_to_chord(add.s(1, 1))

    def test_signature_from_request(self, add):
        """A request can be made into a signature that calls the task in the same way."""
        sig = add.signature_from_request(request_for(add, args=(1,), queue="q", priority=2), kwargs={"y": 3}, countdown=5)
        assert (sig.args, sig.kwargs) == ((1,), {"y": 3})
        assert sig.options["queue"] == "q"
        assert sig.options["priority"] == 2
        assert sig.options["countdown"] == 5
        assert sig.options["task_id"] == "the-id"
