"""``manage.py tasks``: workers, queues and dead letters, for people and as JSON."""

import io
import json
from datetime import timedelta

import pytest

from django_tasks import app, clock
from django_tasks.beat.leader import Leader
from django_tasks.cli import dead as dead_cli
from django_tasks.cli import queues as queues_cli
from django_tasks.cli.tables import Failure, Screen
from django_tasks.models import DeadLetter, Message, Queue
from tests.database.cli.commandline import ADD, answer, bury, heartbeat, refusal, run

pytestmark = pytest.mark.django_db


# -- status


def test_status_lists_living_workers():
    """Living workers are listed; the silent and the stopped only with --all."""
    heartbeat()
    heartbeat("stale@host", heartbeat_at=clock.now() - timedelta(minutes=1))
    heartbeat("stopped@host", stopped_at=clock.now())
    (row,) = answer("status")
    assert (row["name"], row["state"], row["queues"], row["processed"]) == ("w1@host", "alive", ["default"], 7)
    assert {row["state"] for row in answer("status", "--all")} == {"alive", "stale", "stopped"}
    text = run("status")[1]
    assert "w1@host" in text
    assert "1 alive, 1 tasks running" in text


def test_status_without_workers():
    """Without a living worker the exit status is 1."""
    heartbeat(heartbeat_at=clock.now() - timedelta(minutes=1))
    status, text = refusal("status")
    assert status == 1
    assert "no worker is alive" in text


def test_status_names_the_leader_and_pauses(settings):
    """Who leads and since when; schedules that no beat sends are exit status 1; a paused queue with who, why and whom it stops."""
    heartbeat()
    leader = Leader(2.0)
    settings.DJANGO_TASKS = {**settings.DJANGO_TASKS, "BEAT_SCHEDULE": {"nightly": {"task": ADD, "schedule": 60}}}
    status, text = refusal("status")
    assert status == 1
    assert "no beat leads" in text
    assert leader.lead(clock.now())
    run("queues", "pause", "default", "--reason", "the supplier is down")
    status, text = run("status")
    assert status == 0
    assert f"beat: {leader.holder} leads since 20" in text
    assert "default (paused)" in text
    assert "the supplier is down); w1@host would consume it" in text
    assert answer("status")[0]["paused_queues"] == ["default"]
    leader.resign()
    assert "no beat leads" in refusal("status")[1]


# -- queues and purge


def test_queues_shows_sizes_and_pauses():
    """Every known queue is listed with its size and its pause."""
    app.send_task(ADD, (1, 2), queue="slow")
    app.send_task(ADD, (1, 2), queue="slow", countdown=60)
    run("queues", "pause", "slow", "--reason", "the supplier is down")
    rows = {row["name"]: row for row in answer("queues")}
    assert set(rows) == {"default", "slow"}
    assert (rows["slow"]["size"], rows["slow"]["delayed"], rows["slow"]["paused"]) == (2, 1, True)
    assert rows["slow"]["reason"] == "the supplier is down"
    assert "SIZE" in run("queues")[1]


def test_queues_pause_and_resume():
    """Pausing and resuming change the row that workers read; resuming what isn't paused gives exit status 1, and the nearest name."""
    assert "did you mean 'default'?" in run("queues", "pause", "defualt")[1]
    assert "did you mean 'default'?" in refusal("queues", "resume", "defaul")[1]
    assert "did you mean 'default'?" in run("purge", "-Q", "defaul", "--force")[1]
    assert "1 paused" in run("queues", "pause", "slow")[1]
    row = Queue.objects.get(name="slow")
    assert row.paused_at is not None
    assert "command line" in row.paused_by
    assert "(1 paused before)" in run("queues", "pause", "slow")[1]
    assert answer("queues", "resume", "slow")[0]["paused"] is False
    status, text = refusal("queues", "resume", "slow")
    assert status == 1
    assert "none of these queues was paused: slow" in text


def test_json_counts_before_and_after_a_nested_command():
    """--json may stand on either side of a nested command."""
    for arguments in (["queues", "--json", "pause", "a"], ["queues", "pause", "a", "--json"]):
        assert json.loads(run(*arguments)[1])[0]["name"] == "a"


def test_purge_asks(monkeypatch):
    """Purging goes on when «yes» is typed and not otherwise."""
    app.send_task(ADD, (1, 2), queue="slow")
    said = []
    screen = Screen(said.append)
    for reply in ("no", "", "n"):
        with pytest.raises(Failure, match="nothing was deleted"):
            queues_cli.purge_queues(screen, {"queues": ["slow"]}, lambda prompt, reply=reply: reply)
    assert "slow (1)" in said[0]
    assert Message.objects.count() == 1
    queues_cli.purge_queues(screen, {"queues": ["slow"]}, lambda prompt: "yes")
    assert not Message.objects.exists()


def test_purge_without_anyone_to_ask(monkeypatch):
    """Where nobody can answer, nothing is deleted; nor with --json without --force."""
    app.send_task(ADD, (1, 2))
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert refusal("purge") == (1, "nothing was deleted")
    assert "--force" in refusal("purge", "--json")[1]
    assert Message.objects.count() == 1


def test_purge_deletes_from_the_named_queues():
    """-Q limits it; without, every known queue is emptied."""
    for name in ("one", "two", "three"):
        app.send_task(ADD, (1, 2), queue=name)
    assert run("purge", "-f", "-Q", "one, two")[1].strip() == "2 messages deleted from 2 queues"
    assert Message.objects.get().queue == "three"
    assert {row["name"]: row["purged"] for row in answer("purge", "-f")}["three"] == 1
    assert not Message.objects.exists()


# -- dead


def test_dead_lists_letters():
    """The newest letters come first; filters and --limit narrow them; none at all is no failure."""
    assert run("dead") == (0, "no dead letters\n")
    assert answer("dead") == []
    old = bury(died_at=clock.now() - timedelta(hours=1), queue="slow", reason="worker lost")
    new = bury()
    assert [row["id"] for row in answer("dead")] == [new.pk, old.pk]
    assert [row["id"] for row in answer("dead", "list", "--queue", "slow")] == [old.pk]
    assert [row["id"] for row in answer("dead", "--reason", "worker lost")] == [old.pk]
    assert "--limit N shows more" in run("dead", "--limit", "1")[1]


def test_dead_show():
    """One letter is shown decoded, or with the reason why it can't be."""
    letter = bury()
    found = answer("dead", "show", str(letter.pk))
    assert (found["args"], found["kwargs"], found["problem"]) == ([2, 3], {"z": 1}, "")
    broken = bury(body=b"\x80\x00")
    found = answer("dead", "show", str(broken.pk))
    assert found["problem"]
    assert found["body"].startswith("000000  80 00")
    assert "nobody knows it" in run("dead", "show", str(letter.pk))[1]
    assert refusal("dead", "show", "999") == (1, "there is no dead letter 999")


def test_dead_replay():
    """The chosen letters are published again and gone; the others stay."""
    one, two, three = bury(task_id="1"), bury(task_id="2", reason="other"), bury(task_id="3", reason="other")
    assert "1 dead letter sent again" in run("dead", "replay", str(one.pk))[1]
    assert answer("dead", "replay", "--reason", "other") == {"replayed": 2}
    assert Message.objects.count() == 3
    assert not DeadLetter.objects.filter(pk__in=[one.pk, two.pk, three.pk]).exists()
    bury()
    assert answer("dead", "replay", "--all") == {"replayed": 1}


@pytest.mark.parametrize("command", ["replay", "delete"])
def test_dead_wants_to_know_which(command):
    """Without ids, filter or --all it is wrong usage; an id that isn't there stops the whole."""
    letter = bury()
    assert refusal("dead", command)[0] == 2
    status, text = refusal("dead", command, str(letter.pk), "999")
    assert (status, text) == (1, "there is no dead letter 999; nothing was done")
    assert DeadLetter.objects.filter(pk=letter.pk).exists()


def test_dead_delete(monkeypatch):
    """Named letters are deleted at once, many only after asking."""
    one, two = bury(), bury(reason="other")
    run("dead", "delete", str(one.pk))
    assert [letter.pk for letter in DeadLetter.objects.all()] == [two.pk]
    with pytest.raises(Failure):
        dead_cli.delete(Screen(lambda text: None), {"all": True}, lambda prompt: "no")
    assert DeadLetter.objects.exists()
    assert answer("dead", "delete", "--all", "--force") == {"deleted": 1}
