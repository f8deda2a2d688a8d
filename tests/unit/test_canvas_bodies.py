"""Bodies of chords as stores keep them."""

from datetime import timedelta

import pytest
from django.test import override_settings

from django_tasks.canvas import chain, chord, group
from django_tasks.canvas.bodyserializers import serializer_of
from django_tasks.conf import settings
from django_tasks.exceptions import ContentDisallowed
from django_tasks.messages import Destination, TaskMessage
from django_tasks.protocol import decode, encode
from django_tasks.result_backends import bodies
from django_tasks.tasks import shared_task

pytestmark = pytest.mark.usefixtures("own_registry")


@pytest.mark.parametrize(
    ("make", "serializer"),
    [
        (lambda plain, pickled: plain.s(), "json"),
        (lambda plain, pickled: pickled.s(), "pickle"),
        (lambda plain, pickled: plain.s().set(serializer="yaml"), "yaml"),
        (lambda plain, pickled: pickled.s().set(serializer="json"), "json"),
        (lambda plain, pickled: plain.s() | pickled.s(), "pickle"),
        (lambda plain, pickled: group(plain.s(), pickled.s()), "pickle"),
        (lambda plain, pickled: chord([plain.s()], pickled.s()), "pickle"),
        (lambda plain, pickled: chord([pickled.s(), plain.s()], chain(plain.s(), plain.s())), "pickle"),
        (lambda plain, pickled: {"task": "t.unknown", "options": None}, "json"),
        (lambda plain, pickled: {}, "json"),
    ],
)
def test_a_body_is_kept_by_its_tasks_serializer(make, serializer):
    """The serializer of what a body is made of must count, and the way back be exact; a reader that doesn't accept it must refuse it."""
    plain, pickled = (shared_task(name=f"t.{name}", serializer=name)(lambda *args, **kwargs: None) for name in ("json", "pickle"))
    body = make(plain, pickled)
    assert serializer_of(body) == serializer
    if serializer == "pickle":
        body["kwargs"]["kept"] = {1: timedelta(days=1)}
    text = bodies.written(body)
    with override_settings(DJANGO_TASKS={"ACCEPT_CONTENT": ["json", serializer]}):
        settings.reset()
        found = bodies.read(text)
        assert found.get("kwargs") == body.get("kwargs")
    settings.reset()
    if serializer != "json":
        with pytest.raises(ContentDisallowed):
            bodies.read(text)


@pytest.mark.parametrize("serializer", ["yaml", "msgpack", "pickle"])
def test_workflows_travel_by_every_serializer(serializer):
    """What follows a call must travel in its message as plain dictionaries: YAML knows no others, and Celery has not our classes."""
    task = shared_task(name="t.step")(lambda *args: None)
    message = TaskMessage(id="1", task="t.step", args=(task.s(1),), embed={"chain": [task.s() | task.s()], "chord": task.s(2)})
    (envelope,) = encode([message], [Destination(queue="q", routing_key="q", serializer=serializer)], origin="here")
    assert b"django_tasks" not in envelope.body
    found = decode(envelope, accept=[serializer])
    assert found.embed["chain"][0]["kwargs"]["tasks"][1]["task"] == "t.step"
    assert list(found.embed["chord"]["args"]) == [2]
