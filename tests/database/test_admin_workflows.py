"""The picture of a workflow: which tasks belong to it, how it is drawn, and what can be run again from there."""

import json
import xml.etree.ElementTree as ET

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from django_tasks import chord as canvas_chord
from django_tasks import clock, group, states
from django_tasks.admin.drawing import MANY, draw
from django_tasks.models import ChordCounter, Message, TaskResult
from django_tasks.operations import workflows
from django_tasks.operations.workflows import workflow_of
from tests.sampleapp.tasks import add

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


def t(task_id):
    return add.si(1, 1).set(task_id=task_id)


@pytest.mark.parametrize(
    ("body", "edges"),
    [
        (lambda: t("a"), "pa qa"),
        (lambda: t("a") | t("b"), "pa qa ab"),
        (lambda: group(t("a"), t("b")), "pa qa pb qb"),
        (lambda: t("a") | group(t("b"), t("c")), "pa qa ab ac"),
        (lambda: canvas_chord([t("a"), t("b")], t("c")), "pa qa pb qb ac bc"),
        (lambda: t("a") | canvas_chord([t("b"), t("c")], t("d")), "pa qa ab ac bd cd"),
        (lambda: canvas_chord([t("a"), t("b")], canvas_chord([t("c"), t("d")], t("e") | t("f"))), "pa qa pb qb ac ad bc bd ce de ef"),
        (lambda: canvas_chord([t("a"), t("b") | t("c")], t("d")), "pa qa pb qb ad bc cd"),
    ],
    ids=["task", "chain", "group", "chain-group", "chord", "chain-chord", "chord-in-chord", "chord-of-chains"],
)
def test_parts_lead_to_what_their_body_begins_with(body, edges):
    """Whatever a body is, the parts lead to its first tasks, and its own tasks to each other, before any of them has started."""
    canvas_chord([t("p"), t("q")], body()).apply_async()
    group_id = ChordCounter.objects.latest("id").group_id
    row = make("p", group_id=group_id, root_id="p")
    make("q", group_id=group_id, root_id="p")
    assert {begin + end for begin, end in workflow_of(row).arrows} == set(edges.split())


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


def test_many_chains_of_one_shape_share_boxes():
    """What has one name and stands in one column is one box: the steps of many chains, which are no group."""
    make("root", root_id="root", meta=sent(*(f"first-{n}" for n in range(20))))
    for number in range(20):
        make(f"first-{number}", root_id="root", parent_id="root", meta=sent(f"second-{number}"))
        make(f"second-{number}", root_id="root", parent_id=f"first-{number}", task_name="shop.second")
    drawn = boxes(draw(workflow_of(TaskResult.objects.get(task_id="root"))))
    said = [box.get("aria-label").replace("\N{MULTIPLICATION SIGN}", "x") for box in drawn[1:]]
    assert said == [f"{ADD} x 20: 20 SUCCESS", "shop.second x 20: 20 SUCCESS"]


def test_a_deep_workflow_is_one_line():
    """Sixty tasks that sent each other stand side by side, and those of one name are not mixed up."""
    for number in range(60):
        make(f"d{number}", root_id="d0", parent_id=f"d{number - 1}" if number else None, meta=sent(f"d{number + 1}"))
    root = ET.fromstring(draw(workflow_of(TaskResult.objects.get(task_id="d30"))))
    places = [(int(rect.get("x")), rect.get("y")) for rect in root.iter(f"{SVG}rect")]
    assert len(places) == len(set(places)) == 61
    assert len({y for _, y in places}) == 1


def test_the_picture_speaks(chord):
    """It has a title and a description; each link says task and state; nothing hides links from a screen reader."""
    root = ET.fromstring(draw(workflow_of(chord)))
    named = {root.find(f"{SVG}title").get("id"): "title", root.find(f"{SVG}desc").get("id"): "desc"}
    assert (named[root.get("aria-labelledby")], named[root.get("aria-describedby")]) == ("title", "desc")
    assert root.find(f"{SVG}desc").text.startswith("12 SUCCESS, 1 FAILURE, 1 PENDING.")
    assert root.get("role") == "group"
    assert [link.get("aria-label") for link in root.iter(f"{SVG}a")] == [f"{ADD}: SUCCESS · 500 ms"]


def test_arrows_beside_a_longer_way_are_left_out():
    """Who sends a chord has sent its body as well; the picture leads there through the parts."""
    make("root", root_id="root", meta=sent("one", "two", "body"))
    for part in ("one", "two"):
        make(part, root_id="root", parent_id="root", meta=sent("body"))
    make("body", root_id="root", parent_id="two")
    workflow = workflow_of(TaskResult.objects.get(task_id="two"))
    assert ("root", "body") in workflow.arrows
    paths = [path for path in ET.fromstring(draw(workflow)).iter(f"{SVG}path") if path.get("class") == "dt-arrow"]
    assert len(paths) == 4


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


def test_failed_tasks_are_run_again_alone(admin_client, chord):
    """What is chosen and has failed is sent anew; what has not failed is not, whatever the form says."""
    response = admin_client.post(reverse(PAGE, args=[chord.pk]), {"task": ["part-3", "part-4", "stranger"], "alone": "x"}, follow=True)
    assert [str(message) for message in response.context["messages"]] == ["1 task was sent again."]
    again = Message.objects.get()
    headers = json.loads(again.headers)
    assert (again.task, headers["root_id"], headers["parent_id"]) == (ADD, "root", "part-3")
    nothing = admin_client.post(reverse(PAGE, args=[chord.pk]), {"task": ["part-4"]}, follow=True)
    assert "Nothing was sent" in str(next(iter(nothing.context["messages"])))


def test_failed_tasks_go_on(admin_client, chord):
    """What is chosen runs again under its own id, the chord waits for it, and the log tells; a second click sends nothing."""
    make("body", task_name="shop.total", status=states.FAILURE, task_args=None, task_kwargs=None, root_id="root", group_id="g")
    part = TaskResult.objects.filter(task_id="part-3")
    part.update(meta=json.dumps({"follows": {"priority": 2, "embed": {"chord": True}}, "group_index": 3}), date_done=clock.now())
    TaskResult.objects.filter(task_id__startswith="part", status=states.SUCCESS).update(date_done=clock.now())
    ChordCounter.objects.update(date_done=clock.now())
    page = admin_client.get(reverse(PAGE, args=[chord.pk])).content.decode()
    assert 'name="on" value="Run again and go on" class="default"' in page
    assert 'name="alone" value="Run again alone">' in page
    response = admin_client.post(reverse(PAGE, args=[chord.pk]), {"task": ["part-3", "part-4"], "on": "x"}, follow=True)
    assert [str(message) for message in response.context["messages"]] == ["1 task was sent again."]
    message = Message.objects.get()
    headers = json.loads(message.headers)
    assert (message.task_id, headers["group"], headers["group_index"], headers["root_id"]) == ("part-3", "g", 3, "root")
    assert set(TaskResult.objects.filter(task_id__in=["part-3", "body"]).values_list("status", flat=True)) == {states.PENDING}
    counter = ChordCounter.objects.get()
    assert (counter.done, counter.size, counter.date_done) == (11, 12, None)
    assert LogEntry.objects.get().change_message == "Run again, with what follows."
    again = admin_client.post(reverse(PAGE, args=[chord.pk]), {"task": ["part-3"], "on": "x"}, follow=True)
    assert "Nothing was sent" in str(next(iter(again.context["messages"])))
    assert Message.objects.count() == 1


def test_all_that_failed_goes_on(admin_client, chord):
    """A button for all saves choosing each; nothing needs to be chosen."""
    for number in range(12):
        TaskResult.objects.filter(task_id=f"part-{number}").update(
            status=states.FAILURE, meta=json.dumps({"follows": {"embed": {"chord": True}}, "group_index": number}), date_done=clock.now()
        )
    ChordCounter.objects.update(date_done=clock.now())
    assert 'name="all"' in admin_client.get(reverse(PAGE, args=[chord.pk])).content.decode()
    asked = admin_client.post(reverse(PAGE, args=[chord.pk]), {"all": "x"}).content.decode()
    assert "12 tasks of this workflow run once more" in asked
    assert 'name="all"' in asked
    response = admin_client.post(reverse(PAGE, args=[chord.pk]), {"all": "x", "confirmed": "yes"}, follow=True)
    assert [str(message) for message in response.context["messages"]] == ["12 tasks were sent again."]
    assert Message.objects.count() == LogEntry.objects.count() == 12


def test_why_it_can_not_go_on(admin_client, chord):
    """Of what was stored by an earlier version only running alone is offered; whoever asks for more is told why not."""
    page = admin_client.get(reverse(PAGE, args=[chord.pk])).content.decode()
    assert "Run again and go on" not in page
    assert 'value="Run again alone" class="default"' in page
    response = admin_client.post(reverse(PAGE, args=[chord.pk]), {"task": ["part-3"]}, follow=True)
    (said,) = response.context["messages"]
    assert "what was to follow it was not kept" in str(said)
    assert not Message.objects.exists()
    assert not LogEntry.objects.exists()


def test_what_never_started_can_not_be_chosen(admin_client, chord):
    """A task that failed because another one did has no arguments to be run with; nor has one whose arguments were not kept."""
    make("body", task_name="shop.total", status=states.FAILURE, task_args=None, task_kwargs=None, root_id="root")
    text = admin_client.get(reverse(PAGE, args=[chord.pk])).content.decode()
    assert 'value="part-3"' in text
    assert 'value="body"' not in text


def test_a_form_of_another_site_runs_nothing(chord):
    """Running again takes the token of the form."""
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.create_superuser("root", password="x"))
    assert client.post(reverse(PAGE, args=[chord.pk]), {"task": ["part-3"]}).status_code == 403
    assert not Message.objects.exists()


def test_only_what_may_still_change_is_looked_at_again(admin_client, chord):
    """The page follows a workflow that runs, and is still when all of it is done."""
    assert 'id="dt-seen" data-live' in admin_client.get(reverse(PAGE, args=[chord.pk])).content.decode()
    make("body", task_name="shop.total", root_id="root")
    assert "data-live" not in admin_client.get(reverse(PAGE, args=[chord.pk])).content.decode()
    response = admin_client.post(reverse(PAGE, args=[chord.pk]), {"task": ["part-3"], "alone": "x"}, follow=True)
    assert 'id="dt-seen" data-live' in response.content.decode()  # until a worker has what was sent


def test_permissions(client, chord):
    """Seeing takes the view permission, running again one of its own."""
    user = User.objects.create_user("staff", password="x", is_staff=True)
    client.force_login(user)
    assert client.get(reverse(PAGE, args=[chord.pk])).status_code == 403
    user.user_permissions.add(Permission.objects.get(codename="view_taskresult"))
    page = client.get(reverse(PAGE, args=[chord.pk]))
    assert page.status_code == 200
    assert 'type="checkbox"' not in page.content.decode()
    assert "Run again" not in page.content.decode()
    assert client.post(reverse(PAGE, args=[chord.pk]), {"task": ["part-3"]}).status_code == 403
    assert not Message.objects.exists()


def test_progress_is_a_bar(admin_client):
    """What ``Task.progress`` stored is shown as a bar; something else under that state as it is."""
    row = make("going", status=states.PROGRESS, result='{"done":30,"total":120,"message":"reading <orders>"}')
    text = admin_client.get(reverse("admin:django_tasks_taskresult_change", args=[row.pk])).content.decode()
    assert '<progress max="1" value="0.25" aria-label="Progress">' in text
    assert "30 / 120 (25 %)" in text
    assert "reading &lt;orders&gt;" in text
    for result, there in (('{"done":7,"total":null,"message":""}', True), ('{"current": 3}', True), ('{"page": 3}', False), ("[]", False)):
        TaskResult.objects.filter(pk=row.pk).update(result=result)
        page = admin_client.get(reverse("admin:django_tasks_taskresult_change", args=[row.pk])).content.decode()
        assert ('<progress aria-label="Progress">' in page) is there
