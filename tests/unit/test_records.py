"""Quick records: frozen dataclasses with another constructor, and nothing else that is different."""

import copy
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace

import pytest

from django_tasks.messages import Envelope, TaskMessage
from django_tasks.records import copier, maker, quick


@quick
@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """All fields by name."""

    id: str
    number: int = 3
    many: list[int] = field(default_factory=list)


@quick
@dataclass(frozen=True, slots=True)
class Placed:
    """Fields by place."""

    id: str
    number: int = 3


def test_fields_and_defaults():
    """What is given is there, what isn't has its default, and a factory makes a new one for each."""
    first, second = Named(id="a"), Named(id="b", number=4, many=[1])
    assert (first.id, first.number, first.many) == ("a", 3, [])
    assert (second.id, second.number, second.many) == ("b", 4, [1])
    assert first.many is not Named(id="c").many
    assert (Placed("x", 9).number, Placed("x").number, Placed(id="x", number=2).number) == (9, 3, 2)


def test_refusals():
    """Missing, unknown and unnamed arguments are TypeErrors, as of every function."""
    for make in (Named, lambda: Named("a"), lambda: Named(id="a", other=1), Placed, lambda: Placed("a", 1, 2)):
        with pytest.raises(TypeError):
            make()


def test_frozen():
    """Nothing can be set, added or deleted."""
    one = Named(id="a")
    with pytest.raises(FrozenInstanceError):
        one.id = "b"
    with pytest.raises(FrozenInstanceError):
        del one.id
    with pytest.raises((FrozenInstanceError, AttributeError, TypeError)):
        one.other = 1


def test_still_a_dataclass():
    """Comparison, hashing, repr, replace, copies and pickles are those of a dataclass."""
    one = Placed("a", 1)
    assert one == Placed("a", 1) != Placed("a", 2)
    assert hash(one) == hash(Placed("a", 1))
    assert repr(one) == "Placed(id='a', number=1)"
    assert type(one) is Placed
    assert replace(one, number=5) == Placed("a", 5)
    assert [one.name for one in fields(Named)] == ["id", "number", "many"]
    for again in (copy.copy(one), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert again == one
    deep = copy.deepcopy(Named(id="a", many=[1]))
    assert deep.many == [1]


def test_makers():
    """A maker takes and returns what the class does, and refuses what the class refuses."""
    make, place = maker(Named), maker(Placed)
    assert make(id="a", many=[1]) == Named(id="a", many=[1])
    assert make(id="a").many is not make(id="b").many
    assert place("x", number=9) == Placed("x", 9)
    assert type(place("x")) is Placed
    for wrong in (make, lambda: make("a"), lambda: make(id="a", other=1), place):
        with pytest.raises(TypeError):
            wrong()


def test_copiers():
    """A copier returns what replace() does, and leaves alone what it copies."""
    one = Named(id="a", number=7, many=[1])
    other = copier(Named, "number", "id")(one, 8, "b")
    assert other == replace(one, id="b", number=8) == Named(id="b", number=8, many=[1])
    assert (one.id, one.number) == ("a", 7)
    with pytest.raises(FrozenInstanceError):
        other.id = "c"


def test_what_it_is_not_for():
    """A class that it would break is refused when it is defined."""
    with pytest.raises(TypeError, match="dataclass with slots"):

        @quick
        @dataclass(frozen=True)
        class Loose:
            id: str

    with pytest.raises(TypeError, match="without bases"):

        @quick
        @dataclass(frozen=True, slots=True)
        class Derived(Placed):
            more: int = 0


def test_those_in_use():
    """The records of messages are made so, with all their fields."""
    message = TaskMessage(id="1", task="t")
    assert all(hasattr(message, one.name) for one in fields(TaskMessage))
    assert message.kwargs == {}
    envelope = Envelope(body=b"", content_type="", content_encoding="", headers={}, properties={}, queue="q")
    assert replace(envelope, queue="r").queue == "r"
