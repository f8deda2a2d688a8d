"""The completer: the order of its steps, and what a failure at each of them leaves behind."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from django_tasks import brokers, chord, clock, result_backends, shared_task, states
from django_tasks.brokers.memory import MemoryBroker
from django_tasks.context import Request
from django_tasks.exceptions import OperationalError, ServerFullError
from django_tasks.messages import DELIVERY_COUNT, DeadMessage, Delivery, Disposition, Envelope, Settlement, TaskMessage
from django_tasks.outcomes import NO_FOLLOWUPS, Followups, Outcome
from django_tasks.result_backends.backend import NewChord, ReadyChord, ResultMeta
from django_tasks.result_backends.memory import MemoryResultBackend
from django_tasks.worker import completer as completing
from django_tasks.worker.completer import Completer

AWAY = OperationalError("away")


@shared_task(name="tests.completer.part")
def part(number):
    """Do nothing much."""
    return number


@shared_task(name="tests.completer.body")
def body(numbers):
    """Do nothing much."""
    return numbers


class World:
    """A broker and a backend that write down what is asked of them, and fail where they are told to."""

    def __init__(self, url: str) -> None:
        self.calls: list[str] = []
        self.failing: set[str] = set()
        self.error: OperationalError = AWAY
        self.broker = _Broker(url.removeprefix("memory://"), self)
        self.backend = _Backend(url.removeprefix("memory://"), self)
        self.completer = Completer(broker=self.broker, backend=self.backend, hostname="w@h", wake=lambda: None)
        self.consumer = self.broker.consume(["default"], consumer_id="c")
        self.dead: list[DeadMessage] = []
        self.forwarded: list[Envelope] = []

    def note(self, call: str) -> None:
        if call in self.failing:
            raise self.error
        self.calls.append(call)

    def publish(self, messages: Sequence[TaskMessage], **options: Any) -> None:
        self.note("publish")
        self.sent = [message.task for message in messages]

    def forward(self, envelopes: Sequence[Envelope]) -> None:
        self.note("forward")
        self.forwarded += envelopes

    def bury(self, dead: Sequence[DeadMessage]) -> None:
        self.note("bury")
        self.dead += dead

    def settle(self, settlements: Sequence[Settlement]) -> None:
        self.note("settle")
        self.settled = [settlement.disposition for settlement in settlements]

    def flush(self) -> list[Outcome]:
        consumer: Any = self
        return self.completer.flush(consumer)

    def delivery(self, **fields: Any) -> Delivery:
        """Build a delivery of a message."""
        message = {"headers": {"id": "t", "task": "tests.completer.part"}, "properties": {}, "queue": "q", **fields}
        return Delivery(Envelope(body=b"", content_type="application/json", content_encoding="utf-8", **message), "7", "q", 2)

    def done(self, state: str = states.SUCCESS, settlement: Settlement | None = None, **fields: Any) -> Outcome:
        """Build the outcome of a run; with one follower."""
        delivery = settlement.delivery if settlement else self.delivery()
        message = TaskMessage(**{"id": str(uuid4()), "task": "tests.completer.part", "queue": "q", **fields})
        request = Request(message=message, delivery=delivery, hostname="w@h", definition=part)
        followups = Followups([TaskMessage(id="next", task="tests.completer.body")])
        return Outcome(request=request, state=state, result="1", followups=followups, settlement=settlement)


class _Broker(MemoryBroker):
    def __init__(self, name: str, world: World) -> None:
        super().__init__(name)
        self.world = world
        self.delays = True


class _Backend(MemoryResultBackend):
    def __init__(self, name: str, world: World) -> None:
        super().__init__(name)
        self.world = world

    def store(self, metas: Sequence[ResultMeta]) -> None:
        self.world.note("store")
        super().store(metas)

    def count_chord_parts(self, metas: Sequence[ResultMeta]) -> list[ReadyChord]:
        self.world.note("count")
        return super().count_chord_parts(metas)

    def close_chords(self, group_ids: Collection[str]) -> None:
        self.world.note("close")
        super().close_chords(group_ids)


@pytest.fixture
def world(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """Publishing, forwarding, dead letters and settling are written down too."""
    url = f"memory://{uuid4().hex}"
    settings.DJANGO_TASKS = {"BROKER_URL": url, "RESULT_BACKEND": url}
    made = World(url)
    monkeypatch.setattr(completing, "publish", made.publish)
    monkeypatch.setattr(completing, "forward", made.forward)
    monkeypatch.setattr(completing.deadletters, "record", made.bury)
    yield made
    brokers.reset()
    result_backends.reset()


def last_part(world: World) -> Outcome:
    """Open a chord of one part; return the outcome of that part."""
    canvas = chord([part.s(1)], body.s())
    result = canvas.freeze()
    group_id = str(uuid4())
    signature = {**canvas.body, "options": {**canvas.body.options, "task_id": result.id}}
    world.backend.open_chords([NewChord(group_id, 1, signature)])
    return world.done(group=group_id, group_index=0, embed={"chord": signature})


def everything(world: World) -> list[Outcome]:
    """Outcomes that need every step."""
    later = Settlement(world.delivery(), Disposition.DELAY, until=clock.after(60), counted=False)
    dead = Settlement(world.delivery(), Disposition.DEAD, reason="unreadable")
    world.broker.delays = False
    return [last_part(world), world.done(states.RECEIVED, later), world.done(states.FAILURE, dead)]


ORDER = ["store", "count", "publish", "close", "forward", "bury", "settle"]


def test_steps_come_in_the_order_that_loses_nothing(world: World) -> None:
    """Results, chord parts, messages, chords closed, messages that go on, dead letters; the settlements last."""
    for outcome in everything(world):
        world.completer.add(outcome)
    assert len(world.flush()) == 3
    assert world.calls == ORDER
    assert sorted(world.sent) == ["tests.completer.body"] * 4
    assert world.settled == [Disposition.ACK, Disposition.ACK, Disposition.DEAD]
    assert [one.reason for one in world.dead] == ["unreadable"]
    assert world.completer.finished == 3


@pytest.mark.parametrize("step", ORDER)
def test_a_server_that_is_away_at_any_step_leaves_the_messages_unsettled(world: World, step: str) -> None:
    """Nothing after that step happens; the outcomes are kept, and go on from it: no step is done twice."""
    for outcome in everything(world):
        world.completer.add(outcome)
    world.failing.add(step)
    for _ in range(2):
        with pytest.raises(OperationalError):
            world.flush()
    assert world.calls == ORDER[: ORDER.index(step)]
    assert world.completer.pending() == 3
    assert world.completer.due_in(idle=False) == 0.0
    assert world.completer.waits_for_results == (step in {"store", "count", "close"})
    world.completer.add(world.done())
    world.failing.clear()
    assert len(world.flush()) == 3
    assert world.calls == ORDER
    assert world.completer.pending() == 1
    assert len(world.flush()) == 1
    assert world.completer.pending() == 0


def full(world: World, monkeypatch: pytest.MonkeyPatch, *, shared: bool) -> Completer:
    """Let the results' server be full; ``shared``: the messages are in it, too."""
    monkeypatch.setattr(_Broker, "memory", "server:1", raising=False)
    monkeypatch.setattr(_Backend, "memory", "server:1" if shared else "server:2")
    world.completer = Completer(broker=world.broker, backend=world.backend, hostname="w@h", wake=lambda: None)
    world.error = ServerFullError("full")
    world.failing.add("store")
    return world.completer


def test_a_full_server_is_emptied_by_settling_first(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of what nothing follows; its results are put off, which is said once. What is followed by a message waits with its own."""
    monkeypatch.setattr(completing, "PAUSE", 0.0)
    monkeypatch.setattr("django_tasks.worker.putoff.PAUSE", 0.0)
    completer = full(world, monkeypatch, shared=True)
    followed, plain = world.done(), [replace(world.done(), followups=NO_FOLLOWUPS) for _ in range(3)]
    applied = []
    for outcome in (plain[0], followed, *plain[1:]):
        completer.add(outcome)
        applied += world.flush()
    assert applied == plain
    assert set(world.calls) == {"settle"}
    assert completer.pending() == 1 + 3
    assert completer.due_in(idle=False) == 0.0
    assert sum("put off" in text for text in caplog.messages) == 1
    world.failing.clear()
    assert world.flush() == [followed]
    assert len(world.backend.fetch({outcome.request.message.id for outcome in [*plain, followed]})) == 4
    assert (completer.pending(), completer.due_in(idle=True)) == (0, None)


def test_results_are_given_up_at_the_end(world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """After a while without room a process that is to end waits for no more, and says what is lost."""
    monkeypatch.setattr("django_tasks.worker.putoff.PATIENCE", 0.0)
    completer, outcome = full(world, monkeypatch, shared=True), replace(world.done(), followups=NO_FOLLOWUPS)
    completer.add(outcome)
    assert world.flush() == [outcome]
    assert completer.pending() == 0
    completer.end()
    assert outcome.request.message.id in caplog.messages[-1]


def test_settling_first_helps_only_where_it_frees_memory(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the messages elsewhere the batch waits, as for any server that is away, and nothing can be lost."""
    completer = full(world, monkeypatch, shared=False)
    completer.add(replace(world.done(), followups=NO_FOLLOWUPS))
    with pytest.raises(ServerFullError):
        world.flush()
    assert (world.calls, completer.pending()) == ([], 1)


def test_a_chord_whose_claim_has_lapsed_is_asked_for_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a long outage somebody else may have sent the body: then it is not sent again here."""
    world.completer.add(last_part(world))
    world.failing.add("publish")
    with pytest.raises(OperationalError):
        world.flush()
    later = clock.monotonic() + 3600
    monkeypatch.setattr(clock, "monotonic", lambda: later)
    (taken,) = world.backend.reclaim_chords(10)
    world.failing.clear()
    world.flush()
    assert world.sent == ["tests.completer.body"]  # what followed the part by itself
    world.completer.send_bodies([taken])
    assert world.calls[-2:] == ["publish", "close"]
    assert world.backend.reclaim_chords(10) == []


def test_an_outcome_that_breaks_its_batch_is_alone_with_it(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are applied, a chord that was claimed with them is sent all the same, and the one becomes a dead letter."""
    good, bad = last_part(world), world.done()
    bad = replace(bad, followups=Followups([TaskMessage(id="bad", task="bad")]))

    def publish(messages: Sequence[TaskMessage], **options: Any) -> None:
        if any(message.task == "bad" for message in messages):
            raise ValueError("no such queue")
        world.publish(messages)

    monkeypatch.setattr(completing, "publish", publish)
    world.completer.add(good)
    world.completer.add(bad)
    assert len(world.flush()) == 2
    assert world.sent == ["tests.completer.body"] * 2
    assert "close" in world.calls
    assert [one.reason for one in world.dead] == ["outcome not applicable"]
    assert world.completer.pending() == 0


@pytest.mark.parametrize(("delays", "longest", "sent"), [(False, 0.0, True), (True, 900.0, True), (True, 7200.0, False)])
def test_what_a_broker_cannot_put_off_for_that_long_is_sent_again(world: World, delays: bool, longest: float, sent: bool) -> None:
    """With its new time and its count of hand-outs; the delivery is acknowledged after that."""
    world.broker.delays, world.broker.longest_delay = delays, longest
    until = clock.after(3600)
    world.completer.add(world.done(states.RETRY, Settlement(world.delivery(), Disposition.DELAY, until=until, counted=True)))
    world.flush()
    assert [(one.not_before, one.headers[DELIVERY_COUNT]) for one in world.forwarded] == ([(until, 2)] if sent else [])
    assert world.settled == [Disposition.ACK if sent else Disposition.DELAY]


def test_a_substitute_goes_in_the_place_of_its_delivery(world: World) -> None:
    """Whatever the broker can do."""
    delivery = world.delivery()
    substitute = replace(delivery.envelope, not_before=clock.now() + timedelta(seconds=1))
    world.completer.add(world.done(states.RECEIVED, Settlement(delivery, Disposition.DELAY, until=clock.now(), instead=substitute)))
    world.flush()
    assert world.forwarded == [substitute]
    assert world.settled == [Disposition.ACK]


def left_behind(world: World, number: int) -> list[ReadyChord]:
    """Return chords that somebody completed, and did not close."""
    metas = [completing.meta_of(last_part(world), "w@h") for _ in range(number)]
    world.backend.store(metas)
    found = world.backend.count_chord_parts(metas)
    world.calls.clear()
    return found


def test_bodies_of_chords_left_behind_leave_together(world: World) -> None:
    """However many there are, they are published and closed once."""
    chords = left_behind(world, 3)
    world.completer.send_bodies(chords)
    assert world.calls == ["publish", "close"]
    assert world.sent == ["tests.completer.body"] * 3


def test_a_body_that_cant_be_sent_keeps_no_other_from_it(world: World) -> None:
    """A chord that can't be sent is closed, and the others are sent all the same, each once."""
    good, other = left_behind(world, 2)
    world.completer.send_bodies([good, ReadyChord("broken", {"task": 5}, []), other])
    assert world.calls == ["publish", "close", "close", "publish", "close"]
    assert world.backend.reclaim_chords(10) == []


def test_a_body_that_has_run_is_not_sent_again(world: World) -> None:
    """Its claimant died between sending it and saying so: the chord is closed, and the others are sent."""
    ran, left = left_behind(world, 2)
    world.backend.store([ResultMeta(task_id=ran.body["options"]["task_id"], status=states.SUCCESS)])
    world.calls.clear()
    world.completer.send_bodies([ran, left])
    assert world.calls == ["publish", "close"]
    assert world.sent == ["tests.completer.body"]
