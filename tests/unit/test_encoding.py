"""Results as text, and exceptions in Celery's form."""

import json
import sys
import types
from datetime import UTC, datetime

import pytest
from django.test import override_settings

from django_tasks import exceptions, states
from django_tasks.exceptions import ContentDisallowed, EncodeError, TaskError, TaskRevokedError
from django_tasks.result_backends import encoding, exceptionclasses
from django_tasks.result_backends.backend import ResultMeta
from django_tasks.result_backends.documents import from_document, to_document
from django_tasks.result_backends.encoding import decode, decode_exception, encode_exception, encode_value


class Picky(Exception):
    """Takes other arguments than it keeps."""

    def __init__(self, code, *, reason):
        super().__init__(f"{code}: {reason}")
        if not isinstance(code, int):
            raise TypeError("code must be a number")


class Outer:
    class Inner(Exception):
        pass


class Unreadable:
    def __repr__(self):
        raise RuntimeError("no")


def kept(value, status=states.SUCCESS, serializer="json"):
    text, content_type, content_encoding = encode_value(value, serializer)
    return ResultMeta(task_id="1", status=status, result=text, content_type=content_type, content_encoding=content_encoding)


def travelled(error):
    return decode(kept(encode_exception(error), states.FAILURE))


@pytest.mark.parametrize("value", [None, 0, "", [1, {"a": None}], datetime(2026, 1, 1, tzinfo=UTC), "☃\0"])
@pytest.mark.parametrize("serializer", ["json", "yaml", "pickle"])
def test_values_travel(value, serializer):
    """What a serializer takes must come back equal."""
    assert decode(kept(value, serializer=serializer), accept=[serializer]) == value


def test_binary_serializers_give_text():
    """What a binary serializer makes must be text that any store takes."""
    text, content_type, content_encoding = encode_value(b"\0\xff", "pickle")
    assert text.isascii()
    assert (content_type, content_encoding) == ("application/x-python-serialize", "base64")


def test_what_is_not_accepted_is_not_read():
    """A result of a content type that the project doesn't accept must be refused."""
    with pytest.raises(ContentDisallowed, match="x-python-serialize"):
        decode(kept(1, serializer="pickle"))


@override_settings(DJANGO_TASKS={"ACCEPT_CONTENT": ["json", "pickle"]})
def test_the_projects_accept_list_counts():
    """ACCEPT_CONTENT must count for results, and RESULT_ACCEPT_CONTENT over it."""
    from django_tasks.conf import settings

    settings.reset()
    assert decode(kept({1}, serializer="pickle")) == {1}
    with override_settings(DJANGO_TASKS={"ACCEPT_CONTENT": ["pickle"], "RESULT_ACCEPT_CONTENT": ["json"]}):
        settings.reset()
        with pytest.raises(ContentDisallowed):
            decode(kept({1}, serializer="pickle"))
    settings.reset()


def test_what_cannot_be_serialized():
    """A value that can't be serialized must be named in the error."""
    with pytest.raises(EncodeError, match=r"the result can't be stored: .*builtins\.object"):
        encode_value(object())


def test_result_objects_become_tuples():
    """A result object that a task returns must be stored as its tuple; other objects with such a method must not."""

    class Result:
        def as_tuple(self):
            return (("id", None), None)

        def forget(self):
            pass

    class Point:
        def as_tuple(self):
            return (1, 2)

    assert encode_value(Result())[0] == '[["id",null],null]'
    with pytest.raises(EncodeError):
        encode_value(Point())


def test_exceptions_travel_with_their_class():
    """An exception must come back with its class and its arguments, also one of a class inside another."""
    for error in (
        ValueError("bad", 3),
        KeyError("k"),
        Outer.Inner([1, {"a": 2}]),
        OSError(2, "gone"),
        UnicodeDecodeError("a", b"b", 0, 1, "c"),
    ):
        found = travelled(error)
        assert type(found) is type(error)
        assert found.args == error.args


def test_exceptions_in_celerys_form():
    """The wire form must be Celery's: class, arguments, module."""
    assert encode_exception(ValueError("bad", 3)) == {"exc_type": "ValueError", "exc_message": ["bad", 3], "exc_module": "builtins"}


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("ChordError", "celery.exceptions"),
        ("NotRegistered", "celery.exceptions"),
        ("TaskRevokedError", "celery.exceptions"),
        ("TimeoutError", "celery.exceptions"),
        ("TimeLimitExceeded", "billiard.exceptions"),
        ("SoftTimeLimitExceeded", "billiard.exceptions"),
        ("WorkerLostError", "billiard.exceptions"),
        ("Terminated", "billiard.exceptions"),
        ("EncodeError", "kombu.exceptions"),
        ("OperationalError", "kombu.exceptions"),
    ],
)
def test_our_errors_are_celerys_on_the_wire(name, module):
    """Our own errors must claim the modules that Celery has them in, which must have them, and be ours when read."""
    cls = getattr(exceptions, name)
    assert encode_exception(cls("x"))["exc_module"] == module
    assert type(travelled(cls("x"))) is cls
    assert hasattr(pytest.importorskip(module), name)


def test_every_error_of_ours_comes_back():
    """Every public error must come back as itself."""
    names = [name for name, cls in vars(exceptions).items() if isinstance(cls, type) and issubclass(cls, Exception)]
    assert len(names) > 20
    for name in names:
        cls = getattr(exceptions, name)
        if cls.__module__ == exceptions.__name__:
            assert type(travelled(cls("x"))) is cls, name


def test_arguments_that_are_no_json_become_text():
    """Arguments that can't be serialized must become their repr, even where that fails."""
    error = travelled(ValueError({1}, object, Unreadable()))
    assert error.args == ("{1}", "<class 'object'>", "<Unreadable whose repr raised RuntimeError>")


def test_another_serializer_refuses_arguments():
    """A failure must be kept whatever its serializer thinks of the exception's arguments."""
    wire = {"exc_type": "ValueError", "exc_message": [object()], "exc_module": "builtins"}
    error = decode(kept(wire, states.FAILURE))
    assert isinstance(error, ValueError)
    assert error.args[0].startswith("<object")


def test_a_class_that_cannot_be_found_gets_a_stand_in():
    """An unknown class must become one of its name and module, the same each time."""
    wire = {"exc_type": "Deep.Unknown", "exc_message": ["a", 1], "exc_module": "nowhere.to.be.found"}
    error, again = decode_exception(wire), decode_exception(wire)
    assert isinstance(error, Exception)
    assert (type(error).__name__, type(error).__module__, error.args) == ("Unknown", "nowhere.to.be.found", ("a", 1))
    assert type(error) is type(again)


def test_a_local_class_gets_a_stand_in():
    """A class that was defined in a function can't be found; its name and arguments must survive."""

    class Local(Exception):
        pass

    error = travelled(Local("x"))
    assert type(error).__name__ == "Local"
    assert error.args == ("x",)


@pytest.mark.parametrize(
    "wire",
    [
        {"exc_type": "system", "exc_message": ["true"], "exc_module": "os"},
        {"exc_type": "eval", "exc_message": ["1/0"], "exc_module": "builtins"},
        {"exc_type": "Popen", "exc_message": [["true"]], "exc_module": "subprocess"},
        {"exc_type": "__dict__", "exc_message": [], "exc_module": "builtins"},
    ],
)
def test_only_exceptions_are_ever_built(wire):
    """A stored name of something that is no exception must never be called."""
    error = decode_exception(wire)
    assert type(error).__name__ == wire["exc_type"]
    assert type(error).__mro__[1] is Exception


@pytest.mark.parametrize("name", ["SystemExit", "KeyboardInterrupt", "GeneratorExit"])
def test_reading_a_result_never_ends_the_reader(name):
    """Exceptions that end a process must come back as ordinary ones of that name."""
    error = decode_exception({"exc_type": name, "exc_message": [1], "exc_module": "builtins"})
    assert isinstance(error, Exception)
    assert (type(error).__name__, error.args) == (name, (1,))


def test_a_stored_name_imports_nothing_but_what_is_listed(monkeypatch, tmp_path):
    """A name in a store must import no module, also in a loaded package and through a hook, unless the project lists it."""
    package = tmp_path / "known_top"
    package.mkdir()
    for name, source in {"errors": "class Boom(Exception): pass", "exits": "raise SystemExit(3)"}.items():
        (package / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    known = types.ModuleType("known_top")
    known.__path__ = [str(package)]
    known.__getattr__ = lambda name: pytest.fail("a hook was asked")
    monkeypatch.setitem(sys.modules, "known_top", known)

    def built(module):
        return decode_exception({"exc_type": "Boom", "exc_message": ["x"], "exc_module": module})

    for module in ("known_top.errors", "known_top.exits", "known_top", "this"):
        error = built(module)
        assert (type(error).__name__, type(error).__module__, error.args) == ("Boom", module, ("x",))
        assert module == "known_top" or module not in sys.modules
    monkeypatch.setattr(exceptionclasses, "importable", lambda: ["known_top"])
    assert type(built("known_top.exits")).__module__ == "known_top.exits"
    assert type(built("known_top.errors")) is sys.modules.pop("known_top.errors").Boom


class Formats(Exception):
    """Makes its text of its arguments."""

    def __init__(self, code, detail="none"):
        super().__init__(f"{code}: {detail}")


class Speaks(Exception):
    """Has a text of what only its constructor sets."""

    def __init__(self, code, *, detail):
        self.code, self.detail = code, detail
        super().__init__(f"{code}: {detail}")

    def __str__(self):
        return f"{self.code} says {self.detail}"

    __repr__ = __str__


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Picky(3, reason="late"), "3: late"),
        (Formats(3, detail="late"), "3: late"),
        (Speaks(3, detail="late"), "3: late"),
        (json.JSONDecodeError("bad", "{", 0), "bad: line 1"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_constructor_that_takes_other_arguments(error, text):
    """An exception must come back under its name, caught by its class, with its text and its arguments."""
    found = travelled(error)
    assert isinstance(found, type(error))
    assert (type(found).__name__, type(found).__module__) == (type(error).__name__, type(error).__module__)
    assert text in str(found)
    assert text in repr(found)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "", ".", "x" * 100_000])
def test_names_that_no_class_can_have(name):
    """Whatever is stored as a class's name or module must give an exception."""
    error = decode_exception({"exc_type": name, "exc_message": [1], "exc_module": name})
    assert isinstance(error, Exception)
    assert error.args == (1,)
    repr(type(error)).encode()


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        ({"exc_type": "ValueError", "exc_message": "text", "exc_module": "builtins"}, ("text",)),
        ({"exc_type": "ValueError", "exc_message": None, "exc_module": None}, ()),
        ({"exc_type": "ValueError"}, ()),
    ],
)
def test_older_forms(wire, expected):
    """Messages that are no list, and missing modules, must be understood."""
    error = decode_exception(wire)
    assert type(error) is ValueError
    assert error.args == expected


def test_a_failure_without_an_exception():
    """Every failed or revoked task must give an exception, whatever was stored."""
    empty = {"task_id": "1", "result": None}
    assert isinstance(decode(ResultMeta(status=states.FAILURE, **empty)), TaskError)
    assert isinstance(decode(ResultMeta(status=states.REVOKED, **empty)), TaskRevokedError)
    assert isinstance(decode(kept("just text", states.FAILURE)), Exception)
    assert decode(ResultMeta(status=states.RETRY, **empty)) is None


def test_only_exception_states_hold_exceptions():
    """A value that looks like an exception must stay a value where the task succeeded or tells its progress."""
    wire = {"exc_type": "ValueError", "exc_message": [], "exc_module": "builtins"}
    assert decode(kept(wire)) == wire
    assert decode(kept(wire, "PROGRESS")) == wire
    assert isinstance(decode(kept(wire, states.RETRY)), ValueError)


# ---- Celery's document


def test_a_document_is_celerys():
    """The document must have the keys and the values that Celery's clients read."""
    done = datetime(2026, 11, 21, 1, 19, 15, 492572, tzinfo=UTC)
    meta = ResultMeta(
        task_id="1", status=states.SUCCESS, result="5", children=[], date_done=done, name="n", args="[2,3]", kwargs="{}", worker="w"
    )
    document = json.loads(to_document(meta))
    outcome = {"status": "SUCCESS", "result": 5, "traceback": None, "children": [], "date_done": "2026-11-21T01:19:15.492572+00:00"}
    call = {"task_id": "1", "name": "n", "args": [2, 3], "kwargs": {}, "worker": "w", "retries": 0}
    assert document == {**outcome, **call}


@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_a_document_keeps_all(serializer):
    """A document must be read as what it was written from."""
    meta = kept({"a": datetime(2026, 1, 1, tzinfo=UTC)}, serializer=serializer)
    found = from_document(to_document(meta))
    assert decode(found, accept=["json", "pickle"]) == decode(meta, accept=["json", "pickle"])
    assert (found.status, found.date_done, found.children) == (meta.status, None, None)


def test_a_document_by_celery():
    """What Celery itself has written must be read, with an exception in it."""
    text = json.dumps(
        {
            "status": "FAILURE",
            "result": {"exc_type": "ValueError", "exc_message": ["bad"], "exc_module": "builtins"},
            "traceback": "tb",
            "children": [],
            "date_done": {"__type__": "datetime", "__value__": "2026-11-21T01:19:15+00:00"},
            "task_id": "1",
        }
    )
    meta = from_document(text.encode())
    assert decode(meta).args == ("bad",)
    assert meta.date_done == datetime(2026, 11, 21, 1, 19, 15, tzinfo=UTC)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"task_id": "1"}'])
def test_a_document_that_is_none(text):
    """Text that is no such document must be an error that shows it."""
    with pytest.raises(exceptions.BackendGetMetaError, match="can't be read"):
        from_document(text)


def test_the_encoding_needs_no_settings():
    """Without the project's accept list, JSON alone must be accepted."""
    assert encoding.decode(kept(5), accept=["json"]) == 5


class Silent(Exception):
    """Has a text, but no arguments."""

    def __str__(self):
        """Its text."""
        return "kept elsewhere"


class Closed(Silent):
    """Takes no arguments."""

    def __init__(self):
        """Take nothing."""
        super().__init__()


def test_what_an_exception_without_arguments_says_is_kept():
    """Pydantic's errors keep their text elsewhere; a class that takes no arguments gets none, and is built as it was."""
    import pydantic

    with pytest.raises(pydantic.ValidationError) as caught:
        pydantic.TypeAdapter(int).validate_python("much")
    assert "Input should be a valid integer" in str(decode_exception(encode_exception(caught.value)))
    assert encode_exception(Silent())["exc_message"] == ["kept elsewhere"]
    assert type(decode_exception(encode_exception(Closed()))) is Closed
    assert encode_exception(ValueError())["exc_message"] == []
