"""The admin of queued messages, dead letters and queues; with which permissions."""

import json
import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from django_tasks import app, brokers, clock
from django_tasks.exceptions import OperationalError
from django_tasks.models import DeadLetter, Message, MessageState, Queue, Rerun, Revocation, Worker
from django_tasks.serializers import dumps_json

pytestmark = pytest.mark.django_db

ADD = "tests.sampleapp.tasks.add"
BROKEN = {
    "not json": b"{{{",
    "no text": b"\x80\x04\x95\xff\x00\xfe",
    "nothing": b"",
    "json of another shape": b'{"a": 1}',
    "json of a scalar": b"5",
}


def address(model, view="changelist", *args):
    return reverse(f"admin:django_tasks_{model}_{view}", args=args)


def staff(client, *codenames):
    """Log in somebody who may do just this."""
    user = User.objects.create_user("staff", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames, content_type__app_label="django_tasks"))
    assert user.user_permissions.count() == len(codenames)
    client.force_login(user)
    return user


def told(response):
    return [str(message) for message in response.context["messages"]]


def send(*args, **options):
    """Publish a call and return its row."""
    result = app.send_task(ADD, args or (2, 3), **options)
    return Message.objects.get(task_id=result.id)


def bury(**fields):
    values = {
        "queue": "default",
        "task_id": "dead-id",
        "task": ADD,
        "reason": "unknown task",
        "detail": "Traceback\nKeyError: 'x'",
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": json.dumps({"lang": "py", "task": ADD, "id": "dead-id"}),
        "properties": "{}",
        "body": b'[[2, 3], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]',
        "died_at": clock.now(),
    }
    return DeadLetter.objects.create(**{**values, **fields})


def heartbeat(name="w1@host", queues=("default",), **fields):
    now = clock.now()
    values = {"host": "host", "pid": 1, "pool": "prefork", "concurrency": 2, "started_at": now, "heartbeat_at": now}
    return Worker.objects.create(instance=name, name=name, queues=list(queues), **{**values, **fields})


# -- queued messages


def test_the_list_of_messages(admin_client):
    """Task, queue, priority, state and age are in the list, and bodies are not read for it."""
    send(queue="slow", priority=7)
    response = admin_client.get(address("message"))
    page = response.content.decode()
    for text in (ADD, "slow", "7", "ready"):
        assert text in page
    assert {"body", "headers"} <= response.context["cl"].result_list[0].get_deferred_fields()


def test_a_message_is_shown_decoded(admin_client):
    """The page shows arguments, headers and what follows the call."""
    row = send("text & more", {"deep": [1]})
    page = admin_client.get(address("message", "change", row.pk)).content.decode()
    assert "text &amp; more" in page
    assert "&quot;deep&quot;" in page
    assert "it can be decoded" in page
    assert "_save" not in page


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("content_type", ["application/json", "application/x-python-serialize", "application/no-such"])
def test_a_broken_message_is_shown_all_the_same(admin_client, body, content_type):
    """Whatever the body is, the page opens and says what is wrong; bytes that are no text are shown in hexadecimal."""
    row = send()
    Message.objects.filter(pk=row.pk).update(body=body, content_type=content_type)
    response = admin_client.get(address("message", "change", row.pk))
    assert response.status_code == 200
    page = response.content.decode()
    assert "it can be decoded" not in page
    if content_type == "application/x-python-serialize":
        assert "ContentDisallowed" in page
    if b"\x80" in body:
        assert "000000  80 04 95 ff 00 fe" in page


@pytest.mark.parametrize("headers", ["", "no json", "[]", "null", "{}", '{"task": 5}', '{"task": "x", "eta": "soon", "timelimit": 5}'])
def test_broken_headers_are_shown_all_the_same(admin_client, headers):
    """Whatever the headers are, list and page open."""
    row = send()
    Message.objects.filter(pk=row.pk).update(headers=headers, properties=headers)
    assert admin_client.get(address("message")).status_code == 200
    assert admin_client.get(address("message", "change", row.pk)).status_code == 200


def test_a_delayed_message_runs_now(admin_client):
    """«Run now» makes a delayed message ready, without the eta that would delay it again."""
    row = send(countdown=3600)
    assert row.state == MessageState.DELAYED
    response = admin_client.post(address("message", "do", row.pk, "run_now"), follow=True)
    row.refresh_from_db()
    assert row.state == MessageState.READY
    assert json.loads(row.headers).get("eta") is None
    assert told(response) == ["1 message is due now."]
    assert LogEntry.objects.get().object_id == str(row.pk)
    consumer = brokers.current().consume(["default"], consumer_id="test")
    try:
        assert [delivery.tag for delivery in consumer.receive(1, 0)] == [str(row.pk)]
    finally:
        consumer.close()


def test_run_now_is_for_delayed_messages(admin_client):
    """A ready message has no such button, and the action says that there is nothing to do."""
    row = send()
    assert "run_now" not in admin_client.get(address("message", "change", row.pk)).content.decode()
    response = admin_client.post(address("message"), {"action": "run_now", "_selected_action": [row.pk], "index": 0}, follow=True)
    assert "None of these messages is delayed" in told(response)[0]


def test_revoking_and_deleting_messages(admin_client, admin_user):
    """Revoking leaves the message and notes its id; deleting removes it."""
    row, other = send(), send()
    admin_client.post(address("message"), {"action": "revoke", "_selected_action": [row.pk], "index": 0})
    assert Revocation.objects.get().task_id == row.task_id
    assert Revocation.objects.get().revoked_by == admin_user.username
    values = {"action": "delete_selected", "_selected_action": [row.pk], "index": 0, "post": "yes"}
    admin_client.post(address("message"), values)
    assert [message.pk for message in Message.objects.all()] == [other.pk]


def test_messages_are_filtered_and_searched(admin_client):
    """State, queue and task narrow the list; a task id or its beginning finds its message, and so do parts of the arguments."""
    row = send(queue="slow", countdown=60)
    send()
    Message.objects.filter(pk=row.pk).update(headers=dumps_json({**json.loads(row.headers), "argsrepr": "('ein \\'Grüß\\' dich', 7)"}))
    terms = (row.task_id, row.task_id[:8] + "…", "Grüß", "grüß\\' dich', 7")
    for query in ({"state__exact": MessageState.DELAYED.value}, {"queue": "slow"}, *({"q": term} for term in terms)):
        found = admin_client.get(address("message"), query).context["cl"].result_list
        assert [message.pk for message in found] == [row.pk]


@pytest.mark.parametrize(
    ("codename", "offers"),
    [("revoke_message", {"revoke"}), ("promote_message", {"run_now"}), ("delete_message", set()), ("change_message", set())],
)
def test_message_permissions(client, codename, offers):
    """A permission allows its own action and no other."""
    staff(client, "view_message", codename)
    row = send(countdown=60)
    page = client.get(address("message", "change", row.pk)).content.decode()
    for action in ("revoke", "run_now"):
        assert (address("message", "do", row.pk, action) in page) == (action in offers)
        assert (client.post(address("message", "do", row.pk, action)).status_code == 302) == (action in offers)
    assert (client.post(address("message", "delete", row.pk), {"post": "yes"}).status_code == 302) == (codename == "delete_message")


# -- dead letters


def test_dead_letters_are_listed_and_shown(admin_client):
    """Reason and the last line of the detail are in the list; the page shows the arguments and the raw body."""
    letter = bury()
    page = admin_client.get(address("deadletter")).content.decode()
    assert "unknown task" in page
    assert "KeyError: &#x27;x&#x27;" in page
    page = admin_client.get(address("deadletter", "change", letter.pk)).content.decode()
    assert "[\n  2,\n  3\n]" in page
    assert "[[2, 3], {}" in page


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_undecodable_dead_letters_are_shown(admin_client, body):
    """A dead letter is often dead because nobody can decode it; its page opens all the same."""
    letter = bury(body=body, headers="{", properties="[")
    response = admin_client.get(address("deadletter", "change", letter.pk))
    assert response.status_code == 200
    assert "are not JSON" in response.content.decode()


def test_dead_letters_are_replayed(admin_client):
    """Replaying publishes the message as it was, removes the letter, and writes to the log."""
    letter = bury(queue="slow", priority=3)
    response = admin_client.post(address("deadletter", "do", letter.pk, "replay"), follow=True)
    message = Message.objects.get()
    assert (message.task_id, message.queue, message.priority, bytes(message.body)) == ("dead-id", "slow", 3, bytes(letter.body))
    assert not DeadLetter.objects.exists()
    assert told(response) == ["1 message was sent again."]
    assert response.redirect_chain[-1][0] == address("deadletter")
    assert LogEntry.objects.get().change_message == "Replayed."


def test_more_than_one_replay_is_asked_about(admin_client):
    """The page says how many; then they are sent, and it is noted by whom."""
    letters = [bury(task_id="a"), bury(task_id="b")]
    values = {"action": "replay", "_selected_action": [letter.pk for letter in letters], "index": 0}
    assert "2 dead letters are sent again" in admin_client.post(address("deadletter"), values).content.decode()
    assert DeadLetter.objects.count() == 2
    assert told(admin_client.post(address("deadletter"), {**values, "confirmed": "yes"}, follow=True)) == ["2 messages were sent again."]
    assert set(Rerun.objects.values_list("task_id", "new_id")) == {("a", "a"), ("b", "b")}


def test_a_claimed_message_can_be_stopped(admin_client):
    """A worker has it: one button never starts it, one stops it, and each says what happened."""
    heartbeat()
    row = send()
    Message.objects.filter(pk=row.pk).update(state=MessageState.CLAIMED, claimed_by="w1@host/instance/1")
    says = {"revoke": "1 task runs already", "terminate": "1 task is being stopped"}
    for action, text in says.items():
        assert told(admin_client.post(address("message", "do", row.pk, action), follow=True))[0].startswith(text)


def test_a_failed_replay_loses_nothing(admin_client, monkeypatch):
    """When the broker refuses, the letters stay and the user is told."""
    letter = bury()

    def refuse(envelopes):
        raise OperationalError("no broker here")

    monkeypatch.setattr(brokers.current(), "publish", refuse)
    response = admin_client.post(
        address("deadletter"), {"action": "replay", "_selected_action": [letter.pk], "index": 0, "select_across": 1}, follow=True
    )
    assert told(response) == ["Nothing was replayed: no broker here"]
    assert DeadLetter.objects.filter(pk=letter.pk).exists()


def test_replaying_needs_its_permission(client):
    """Who may view dead letters, or even delete them, may not replay them."""
    staff(client, "view_deadletter", "delete_deadletter")
    letter = bury()
    assert client.post(address("deadletter", "do", letter.pk, "replay")).status_code == 403
    assert "/do/replay/" not in client.get(address("deadletter", "change", letter.pk)).content.decode()
    assert not Message.objects.exists()


def test_who_may_replay_may(client):
    """The permission to replay is enough, beside viewing."""
    staff(client, "view_deadletter", "replay_deadletter")
    letter = bury()
    assert client.post(address("deadletter", "do", letter.pk, "replay")).status_code == 302
    assert Message.objects.count() == 1


# -- queues


def rows_of(response):
    return {row.name: row for row in response.context["cl"].result_list}


def test_every_known_queue_is_listed(admin_client, settings):
    """Queues of the broker, of the settings, of living workers and of earlier days are there."""
    settings.DJANGO_TASKS = {"TASK_QUEUES": ["configured"], "TASK_DEFAULT_QUEUE": "configured"}
    send(queue="with messages")
    heartbeat(queues=["worked on"])
    heartbeat("w2", queues=["of a dead worker"], heartbeat_at=clock.now() - timedelta(hours=1))
    Queue.objects.create(name="earlier")
    rows = rows_of(admin_client.get(address("queue")))
    assert set(rows) == {"configured", "earlier", "with messages", "worked on"}


def test_sizes_are_shown(admin_client):
    """Waiting and delayed messages and consuming workers are counted for each queue."""
    for _ in range(3):
        send(queue="busy")
    send(queue="busy", countdown=60)
    heartbeat(queues=["busy"])
    row = rows_of(admin_client.get(address("queue")))["busy"]
    found = row.__dict__["_overview"]
    assert (found.size, found.delayed, found.workers) == (4, 1, 1)
    page = admin_client.get(address("queue", "change", row.pk)).content.decode()
    assert "busy" in page


def test_a_broker_that_does_not_answer_is_reported(admin_client, monkeypatch):
    """The page opens without sizes, and says why."""
    Queue.objects.create(name="q")

    def silent(*args):
        raise OperationalError("no answer")

    monkeypatch.setattr(brokers.current(), "queues", silent)
    monkeypatch.setattr(brokers.current(), "size", silent)
    response = admin_client.get(address("queue"))
    assert response.status_code == 200
    assert "no answer" in told(response)[0]
    assert set(rows_of(response)) == {"q"}


def test_purging_asks_first(admin_client):
    """Purging shows what would go; confirmed, it deletes what waits in the chosen queues and nothing else."""
    send(queue="doomed")
    send(queue="doomed", countdown=60)
    kept = send(queue="kept")
    row = rows_of(admin_client.get(address("queue")))["doomed"]
    values = {"action": "purge", "_selected_action": [row.pk], "index": 0}
    page = admin_client.post(address("queue"), values).content.decode()
    assert "<strong>doomed</strong>: 2" in page
    assert Message.objects.count() == 3
    del values["index"]
    response = admin_client.post(address("queue"), {**values, "confirmed": "yes"}, follow=True)
    assert [message.pk for message in Message.objects.all()] == [kept.pk]
    assert told(response) == ["2 messages were deleted."]
    assert LogEntry.objects.get().change_message == "Purged: 2 messages deleted."


def test_pausing_and_resuming(admin_client, admin_user):
    """Pausing keeps when, who and why; a second pause changes none of it; resuming forgets it."""
    row = Queue.objects.create(name="slow")
    page = admin_client.post(address("queue", "do", row.pk, "pause")).content.decode()
    assert 'name="reason"' in page
    for reason in ("supplier is down", "another"):
        admin_client.post(address("queue", "do", row.pk, "pause"), {"confirmed": "yes", "reason": reason})
    row.refresh_from_db()
    assert (row.paused_by, row.reason) == (admin_user.username, "supplier is down")
    assert row.paused_at is not None
    assert LogEntry.objects.first().change_message == "Paused: supplier is down"
    assert "supplier is down" in admin_client.get(address("queue")).content.decode()
    admin_client.post(address("queue"), {"action": "resume", "_selected_action": [row.pk], "index": 0})
    row.refresh_from_db()
    assert (row.paused_at, row.paused_by, row.reason) == (None, "", "")


def test_deleting_a_queue_can_not_resume_it(admin_client):
    """A paused queue's row can't be deleted; another's can."""
    paused = Queue.objects.create(name="paused", paused_at=clock.now())
    other = Queue.objects.create(name="old")
    assert admin_client.post(address("queue", "delete", paused.pk), {"post": "yes"}).status_code == 403
    values = {"action": "delete_selected", "_selected_action": [paused.pk, other.pk], "index": 0, "post": "yes"}
    assert "resume it first" in admin_client.post(address("queue"), values).content.decode()
    assert Queue.objects.filter(name="paused").exists()
    admin_client.post(address("queue"), {**values, "_selected_action": [other.pk]})
    assert not Queue.objects.filter(name="old").exists()


@pytest.mark.parametrize(("codename", "offers"), [("purge_queue", {"purge"}), ("pause_queue", {"pause"}), ("change_queue", set())])
def test_queue_permissions(client, codename, offers):
    """A permission allows its own action and no other, with a confirmation or without."""
    staff(client, "view_queue", codename)
    row = Queue.objects.create(name="default")
    send()
    page = client.get(address("queue", "change", row.pk)).content.decode()
    for action in ("purge", "pause"):
        assert (address("queue", "do", row.pk, action) in page) == (action in offers)
        response = client.post(address("queue", "do", row.pk, action), {"confirmed": "yes"})
        assert (response.status_code == 302) == (action in offers)
    row.refresh_from_db()
    assert Message.objects.exists() == ("purge" not in offers)
    assert (row.paused_at is not None) == ("pause" in offers)


def test_queues_are_entered_for_viewers_only(client):
    """Who may not see queues causes no rows."""
    staff(client, "view_message")
    assert client.get(address("queue")).status_code == 403
    assert not Queue.objects.exists()


@pytest.mark.parametrize("name", ["ünïcode ❤", "a/b?c=d&e", "<script>alert(1)</script>", "spaces and 'quotes' \"both\"", "x" * 255])
def test_odd_queue_names(admin_client, name):
    """Any name is shown as it is, can be paused and purged."""
    send(queue=name)
    response = admin_client.get(address("queue"))
    row = rows_of(response)[name]
    assert "<script>alert" not in response.content.decode()
    admin_client.post(address("queue", "do", row.pk, "pause"), {"confirmed": "yes"})
    admin_client.post(address("queue", "do", row.pk, "purge"), {"confirmed": "yes"})
    row.refresh_from_db()
    assert row.paused_at is not None
    assert not Message.objects.exists()


# -- every database


@pytest.mark.django_db(databases=["default", "postgres", "mysql"])
def test_messages_of_another_database(admin_client, settings, alias):
    """Lists, pages and actions work on the database that BROKER_URL names, whichever it is."""
    settings.DJANGO_TASKS = {"BROKER_URL": f"db://{alias}"}
    sent = app.send_task(ADD, (2, 3), queue="elsewhere", countdown=600, on_commit=False)
    row = Message.objects.using(alias).get(task_id=sent.id)
    assert [message.pk for message in admin_client.get(address("message")).context["cl"].result_list] == [row.pk]
    assert admin_client.get(address("message", "change", row.pk)).status_code == 200
    queue = rows_of(admin_client.get(address("queue")))["elsewhere"]
    assert (queue.__dict__["_overview"].size, queue.__dict__["_overview"].delayed) == (1, 1)
    admin_client.post(address("message", "do", row.pk, "run_now"))
    row.refresh_from_db()
    assert row.state == MessageState.READY
    admin_client.post(address("message", "delete", row.pk), {"post": "yes"})
    assert not Message.objects.using(alias).exists()


def test_a_broker_without_rows(admin_client, settings):
    """With a broker of another kind the pages open; what it can't tell is a dash."""
    settings.DJANGO_TASKS = {"BROKER_URL": "memory://"}
    app.send_task(ADD, (2, 3), on_commit=False)
    row = rows_of(admin_client.get(address("queue")))["default"]
    assert (row.__dict__["_overview"].size, row.__dict__["_overview"].delayed) == (1, None)
    assert admin_client.get(address("message")).status_code == 200
    admin_client.post(address("queue", "do", row.pk, "purge"), {"confirmed": "yes"})
    assert brokers.current().size("default") == 0


def test_more_queues_are_paused_than_a_form_has_fields(admin_client):
    """The page that asks sends all of them in one field: Django refuses a form of more than a thousand."""
    Queue.objects.bulk_create(Queue(name=f"q{n}") for n in range(1100))
    values = {"action": "pause", "select_across": "1", "_selected_action": [Queue.objects.first().pk], "index": 0}
    page = admin_client.post(address("queue"), values).content.decode()
    (rows,) = re.findall('name="confirmed_rows" value="([0-9,]+)"', page)
    assert page.count("<input") < 10
    admin_client.post(address("queue"), {"action": "pause", "confirmed": "yes", "confirmed_rows": rows})
    assert Queue.objects.filter(paused_at__isnull=False).count() == 1100
