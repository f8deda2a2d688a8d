"""The picture of a workflow: which tasks belong to it, how it is drawn, and what can be run again from there."""

import json
import xml.etree.ElementTree as ET

import pytest
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from django_tasks import clock, states
from django_tasks.admin.drawing import MANY, draw
from django_tasks.models import ChordCounter, Message, TaskResult
from django_tasks.operations import workflows
from django_tasks.operations.workflows import workflow_of

pytestmark = pytest.mark.django_db

PAGE = "admin:django_tasks_taskresult_workflow"
ADD = "tests.sampleapp.tasks.add"
SVG = "{http://www.w3.org/2000/svg}"


def make(task_id, **fields):
    values = {
        "task_name": ADD,
        "task_args": "[2, 3]",
        "task_kwargs": "{}",
        "status": states.SUCCESS,
        "runtime": 0.5,
        "date_created": clock.now(),
    }
    return TaskResult.objects.create(task_id=task_id, **{**values, **fields})


def sent(*children):
    return json.dumps({"children": [[[child, None], None] for child in children]})


@pytest.fixture
def chord():
    """A task that sends a group of 12, one of which fails, whose body waits, and a stranger beside them."""
    root = make("root", root_id="root", meta=json.dumps({"children": [[["g", None], [[[f"part-{n}", None], None] for n in range(12)]]]}))
    for number in range(12):
        state = states.FAILURE if number == 3 else states.SUCCESS
        make(f"part-{number}", root_id="root", parent_id="root", group_id="g", status=state)
    body = {"task": "shop.total", "options": {"task_id": "body"}}
    ChordCounter.objects.create(group_id="g", size=12, body=json.dumps(body), date_created=clock.now())
    make("stranger", root_id="stranger")
    return root


def boxes(picture):
    return [box for box in ET.fromstring(picture).iter(f"{SVG}g") if box.get("class") == "dt-box"]


def test_a_chord_is_found_from_any_of_its_tasks(chord):
    """Root, parts and the body that has not started belong together, whichever task one comes from; the stranger doesn't."""
    wanted = {"root", "body", *(f"part-{number}" for number in range(12))}
    for task_id in ("root", "part-7"):
        workflow = workflow_of(TaskResult.objects.get(task_id=task_id))
        assert set(workflow.steps) == wanted
        assert {("root", "part-0"), ("part-0", "body"), ("part-11", "body")} <= set(workflow.arrows)
        assert len(workflow.arrows) == 24
    assert workflow.counts() == {"SUCCESS": 12, "FAILURE": 1, "PENDING": 1}
    assert [step.task_id for step in workflow.failed] == ["part-3"]


def test_a_chain_is_found_by_its_root(chord):
    """Each step was sent by the one before; the last is not there yet and is known from its sender."""
    make("c1", root_id="c1", meta=sent("c2"))
    make("c2", root_id="c1", parent_id="c1", meta=sent("c3"))
    workflow = workflow_of(TaskResult.objects.get(task_id="c2"))
    assert list(workflow.steps) == ["c1", "c2", "c3"]
    assert set(workflow.arrows) == {("c1", "c2"), ("c2", "c3")}
    assert workflow.steps["c3"].status == "PENDING"


def test_members_of_a_large_group_share_a_box(chord):
    """Twelve parts are one box that tells how many are in which state."""
    picture = draw(workflow_of(chord))
    drawn = boxes(picture)
    assert len(drawn) == 3
    group = next(box for box in drawn if "FAILURE" in box.get("data-states"))
    assert group.get("data-states") == "FAILURE SUCCESS"
    texts = [text.text for text in group.iter(f"{SVG}text")]
    assert texts[1] == "1 FAILURE, 11 SUCCESS"
    assert str(12) in texts[0]
    assert MANY <= 12


def test_boxes_never_overlap_and_arrows_go_right(chord):
    """Whoever is sent stands to the right of the sender; no two boxes share a place."""
    make("again", root_id="root", parent_id="part-0", meta=sent("root"))  # a circle
    root = ET.fromstring(draw(workflow_of(chord)))
    places = [(rect.get("x"), rect.get("y")) for rect in root.iter(f"{SVG}rect") if "dt-node" in rect.get("class")]
    assert len(places) == len(set(places)) == 4
    assert all(0 < int(x) < int(root.get("width")) and 0 < int(y) < int(root.get("height")) for x, y in places)


def test_names_are_escaped():
    """A name is text, whatever it holds."""
    row = make("evil", task_name="<script>alert(1)</script>", meta=sent("<b>"))
    assert "<script>" not in draw(workflow_of(row))
    assert len(boxes(draw(workflow_of(row)))) == 2


@pytest.mark.parametrize("meta", ["nonsense", "[]", '{"children": 7}', '{"children": [7, [], [[]], [["x"]], [[1, 2], 3]]}', None])
def test_strange_children_do_no_harm(meta):
    """Whoever wrote the row, the picture is drawn."""
    assert len(boxes(draw(workflow_of(make("odd", meta=meta))))) == 1


def test_a_workflow_too_large_is_cut(chord, monkeypatch):
    """No more tasks are read than can be drawn, and it is said."""
    monkeypatch.setattr(workflows, "MOST", 5)
    assert workflow_of(chord).truncated


def test_the_page(admin_client, chord):
    """The page shows the picture, the counts and the failed tasks; the result's page leads to it."""
    page = admin_client.get(reverse(PAGE, args=[chord.pk]))
    text = page.content.decode()
    assert text.count('class="dt-workflow"') == 1
    assert 'value="part-3"' in text
    assert 'value="part-2"' not in text
    result = admin_client.get(reverse("admin:django_tasks_taskresult_change", args=[chord.pk])).content.decode()
    assert reverse(PAGE, args=[chord.pk]) in result
    alone = admin_client.get(reverse("admin:django_tasks_taskresult_change", args=[TaskResult.objects.get(task_id="stranger").pk]))
    assert "/workflow/" not in alone.content.decode()


def test_failed_tasks_are_run_again(admin_client, chord):
    """What is chosen and has failed is sent anew; what has not failed is not, whatever the form says."""
    response = admin_client.post(reverse(PAGE, args=[chord.pk]), {"task": ["part-3", "part-4", "stranger"]}, follow=True)
    assert [str(message) for message in response.context["messages"]] == ["1 task was sent again."]
    assert Message.objects.get().task == ADD
    nothing = admin_client.post(reverse(PAGE, args=[chord.pk]), {"task": ["part-4"]}, follow=True)
    assert "Nothing was sent" in str(next(iter(nothing.context["messages"])))


def test_permissions(client, chord):
    """Seeing takes the view permission, running again one of its own."""
    user = User.objects.create_user("staff", password="x", is_staff=True)
    client.force_login(user)
    assert client.get(reverse(PAGE, args=[chord.pk])).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_taskresult"))
    page = client.get(reverse(PAGE, args=[chord.pk]))
    assert page.status_code == 200
    assert 'type="checkbox"' not in page.content.decode()
    assert client.post(reverse(PAGE, args=[chord.pk]), {"task": ["part-3"]}).status_code == 403
    assert not Message.objects.exists()


def test_progress_is_a_bar(admin_client):
    """What ``Task.progress`` stored is shown as a bar; something else under that state as it is."""
    row = make("going", status=states.PROGRESS, result='{"done":30,"total":120,"message":"reading <orders>"}')
    text = admin_client.get(reverse("admin:django_tasks_taskresult_change", args=[row.pk])).content.decode()
    assert '<progress max="120.0" value="30.0">' in text
    assert "30 / 120 (25 %)" in text
    assert "reading &lt;orders&gt;" in text
    for result, there in (('{"done":7,"total":null,"message":""}', True), ('{"current": 3}', False), ("[]", False)):
        TaskResult.objects.filter(pk=row.pk).update(result=result)
        page = admin_client.get(reverse("admin:django_tasks_taskresult_change", args=[row.pk])).content.decode()
        assert ("<progress>" in page) is there
