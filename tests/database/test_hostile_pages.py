"""Pages about messages that somebody wrote to do harm: each opens, quickly, and in little memory."""

import json
import pickle
import tracemalloc
import zlib

import pytest
from django.urls import reverse
from django.utils import timezone

from django_tasks.messages import new_id
from django_tasks.models import DeadLetter, Message, MessageState
from django_tasks.operations.contents import MOST_DECODED, pretty
from django_tasks.serializers import DecodeError, TooLargeError, decompressed

pytestmark = pytest.mark.django_db

DEEP = "[" * 5000 + "]" * 5000
BOMB = zlib.compress(b"[" + b" " * 300_000_000 + b"[1], {}, {}]", 9)

HOSTILE = {
    "a bomb": {"headers": {"task": "t", "id": "1", "compression": "gzip"}, "body": BOMB},
    "a compression that can't be stopped": {"headers": {"task": "t", "id": "1", "compression": "application/x-brotli"}, "body": b"x"},
    "no such compression": {"headers": {"task": "t", "id": "1", "compression": "\ud800"}, "body": b"x"},
    "a compression of another kind": {"headers": {"task": "t", "id": "1", "compression": [1]}, "body": b"x"},
    "no gzip": {"headers": {"task": "t", "id": "1", "compression": "gzip"}, "body": b"x"},
    "too large": {"body": b"[[" + b"1," * MOST_DECODED + b"1], {}, {}]"},
    "deep arguments": {"body": f"[[{DEEP}], {{}}, {{}}]".encode()},
    "deep headers": {"headers": f'{{"a": {DEEP}}}'},
    "deep properties": {"properties": DEEP},
    "a number of many digits": {
        "body": b"[[" + b"1" * 5000 + b"], {}, {}]",
        "headers": '{"task": "t", "id": "1", "a": ' + "1" * 5000 + "}",
    },
    "no numbers": {"body": b"[[NaN, Infinity, -Infinity, 1e999], {}, {}]", "headers": '{"a": NaN, "retries": Infinity}'},
    "halves of pairs": {
        "body": b'[["\\ud800"], {"\\udfff": 1}, {}]',
        "headers": '{"task": "\\ud800", "id": "\\ud800", "\\ud800": "\\udc00"}',
    },
    "types of its own": {"body": b'[[{"__type__": "datetime", "__value__": 5}, {"__type__": [], "__value__": {}}], {}, {}]'},
    "types in headers": {"headers": '{"a": {"__type__": "uuid", "__value__": 5}, "b": {"__type__": "decimal", "__value__": "x"}}'},
    "what follows": {"body": json.dumps([[], {}, {"chain": [5], "chord": [], "callbacks": {"a": 1}}]).encode()},
    "pickle": {"body": pickle.dumps(1), "content_type": "application/x-python-serialize", "content_encoding": "binary"},
    "strange words": {"content_type": "\x01<script>", "content_encoding": "\x7f", "task": "\x01", "queue": "\u202e"},
}


def row_of(model, *, headers="{}", properties="{}", **fields):
    text = headers if isinstance(headers, str) else json.dumps(headers)
    times = {"died_at": timezone.now()} if model is DeadLetter else {"state": MessageState.READY, "created_at": timezone.now()}
    usual = {
        "queue": "default",
        "task": "t",
        "task_id": new_id(),
        "priority": 0,
        "content_type": "application/json",
        "content_encoding": "utf-8",
    }
    return model.objects.create(**{"body": b"[[], {}, {}]", **usual, **times, **fields}, headers=text, properties=properties)


@pytest.mark.parametrize("model", [Message, DeadLetter])
def test_pages_of_hostile_messages(admin_client, model):
    """The list and the page of each open, and take no more memory than a page may."""
    name = f"admin:django_tasks_{model._meta.model_name}"
    wrong = []
    for what, hostile in HOSTILE.items():
        row = row_of(model, **hostile)
        tracemalloc.start()
        try:
            page = admin_client.get(reverse(f"{name}_change", args=[row.pk]))
            _, peak = tracemalloc.get_traced_memory()
        except Exception as error:
            wrong.append(f"{what}: {error!r}")
        else:
            wrong += [f"{what}: {page.status_code}, {peak:,} bytes"] if page.status_code != 200 or peak > 100_000_000 else []
        finally:
            tracemalloc.stop()
    assert wrong == []
    assert admin_client.get(reverse(f"{name}_changelist")).status_code == 200


@pytest.mark.parametrize("name", ["gzip", "bzip2", "lzma", "zstd"])
def test_a_body_is_decompressed_so_far_and_no_further(name):
    """What fits comes back whole, what doesn't is an error, and so is what is none."""
    from kombu import compression

    if name not in compression._aliases:
        pytest.skip(f"{name} is not installed")
    body, _ = compression.compress(b"x" * 1000, name)
    assert decompressed(body, name, at_most=1000) == b"x" * 1000
    with pytest.raises(TooLargeError):
        decompressed(body, name, at_most=999)
    with pytest.raises(DecodeError):
        decompressed(b"nonsense", name, at_most=1000)


def test_what_is_held_once_and_shown_a_million_times():
    """References in YAML and pickle make little of much: a page shows the beginning."""
    value = ["lol"]
    for _ in range(40):
        value = [value] * 10
    assert len(pretty(value)) < 3_000_000
