"""``manage.py tasks``: what it prints, for people and as JSON, what it does, and its exit status."""

import io
import json
import subprocess
import sys
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.test import override_settings

from django_tasks import app, clock, states
from django_tasks.cli import dead as dead_cli
from django_tasks.cli import queues as queues_cli
from django_tasks.cli.tables import Failure, Screen, table
from django_tasks.models import DeadLetter, Message, Queue, TaskResult, Worker

pytestmark = pytest.mark.django_db

ADD = "tests.sampleapp.tasks.add"


def run(*arguments):
    """Run the command; return its exit status and what it printed."""
    out = io.StringIO()
    try:
        call_command("tasks", *arguments, stdout=out)
    except SystemExit as stop:
        return stop.code, out.getvalue()
    return 0, out.getvalue()


def answer(*arguments):
    """Run the command with --json; return what it printed, parsed."""
    status, text = run(*arguments, "--json")
    assert status == 0
    return json.loads(text)


def refusal(*arguments):
    """Run a command that must fail; return its exit status and what it said."""
    with pytest.raises(CommandError) as caught:
        call_command("tasks", *arguments, stdout=io.StringIO())
    return caught.value.returncode, str(caught.value)


def store(task_id="one", **fields):
    values = {
        "task_name": ADD,
        "status": states.SUCCESS,
        "result": "5",
        "task_args": "[2, 3]",
        "task_kwargs": "{}",
        "date_created": clock.now(),
        "date_done": clock.now(),
    }
    return TaskResult.objects.create(task_id=task_id, **{**values, **fields})


def bury(**fields):
    values = {
        "queue": "default",
        "task_id": "dead-id",
        "task": ADD,
        "reason": "unknown task",
        "detail": "nobody knows it",
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "headers": json.dumps({"lang": "py", "task": ADD, "id": "dead-id"}),
        "properties": "{}",
        "body": b'[[2, 3], {"z": 1}, {}]',
        "died_at": clock.now(),
    }
    return DeadLetter.objects.create(**{**values, **fields})


def heartbeat(name="w1@host", **fields):
    now = clock.now()
    values = {"host": "host", "pid": 1, "pool": "prefork", "concurrency": 2, "queues": ["default"], "active": 1, "processed": 7}
    return Worker.objects.create(instance=name, name=name, **{**values, "started_at": now, "heartbeat_at": now, **fields})


# -- list


def test_list_names_the_tasks():
    """Registered tasks are listed with the first line of their docstring; built-in ones only with --all."""
    listed = {row["name"]: row["does"] for row in answer("list")}
    assert listed[ADD] == "Return the sum."
    assert not [name for name in listed if name.startswith("celery.")]
    assert [row["name"] for row in answer("list", "--all") if row["name"].startswith("celery.")]
    assert [row["name"] for row in answer("list", "tasks.flaky")] == ["tests.sampleapp.tasks.flaky"]


def test_list_with_detail_shows_arguments_and_options():
    """--detail tells how a task is called and what it was declared with."""
    (described,) = answer("list", "tasks.flaky", "--detail")
    assert described["arguments"] == "(key, failures)"
    assert described["max_retries"] == 3
    _, text = run("list", "tasks.flaky", "--detail")
    assert "max_retries:" in text


def test_list_says_when_nothing_matches():
    """A name that nothing contains gives a sentence for people, an empty list as JSON."""
    assert "no task has 'zzz'" in run("list", "zzz")[1]
    assert answer("list", "zzz") == []


# -- call


def test_call_sends_the_task():
    """The message has the arguments and options that were given, and its id is printed."""
    arguments = ["-a", "[2]", "-k", '{"y": 3}', "-Q", "slow", "--priority", "7", "--countdown", "60", "--expires", "120"]
    status, text = run("call", ADD, *arguments)
    message = Message.objects.get()
    assert (status, text.strip()) == (0, message.task_id)
    assert json.loads(bytes(message.body))[:2] == [[2], {"y": 3}]
    assert (message.queue, message.priority) == ("slow", 7)
    headers = json.loads(message.headers)
    assert clock.parse_iso(headers["eta"]) > clock.after(50)
    assert clock.parse_iso(headers["expires"]) > clock.after(100)


def test_call_takes_times():
    """--eta and --expires take times with an offset or, without one, in UTC."""
    answer("call", ADD, "-a", "[1, 2]", "--eta", "2090-01-02T03:04:05+02:00", "--expires", "2091-01-01T00:00:00")
    headers = json.loads(Message.objects.get().headers)
    assert clock.parse_iso(headers["eta"]) == clock.parse_iso("2090-01-02T01:04:05+00:00")
    assert clock.parse_iso(headers["expires"]) == clock.parse_iso("2091-01-01T00:00:00+00:00")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["-a", "[2, 3"], "here:\n  [2, 3\n       ^"),
        (["-a", "[2,\n oops]"], "here:\n   oops]\n   ^"),
        (["-a", '{"x": 1}'], "--args must be a JSON array"),
        (["-k", "[1]"], "--kwargs must be a JSON object"),
        (["-k", "{x: 1}"], "--kwargs is no JSON"),
        (["-a", ""], "missing"),
        (["-a", "[1]"], "wrong arguments for"),
        (["-a", "[1, 2]", "--queue", "django_tasks.parked"], "was not sent: 'django_tasks.parked' is no name for a queue"),
        (["-a", "[1, 2]", "--priority", "1000"], "was not sent: the priority 1000 must be"),
    ],
)
def test_call_points_at_wrong_arguments(arguments, says):
    """Arguments that are no JSON, of a wrong shape, or not the task's, are refused with their place, and nothing is sent."""
    status, text = refusal("call", ADD, *arguments)
    assert status == 1
    assert says in text
    assert not Message.objects.exists()


def test_waiting_for_results_that_nobody_keeps_is_refused():
    """The sentence names the setting; the task has been sent all the same."""
    with override_settings(DJANGO_TASKS={"RESULT_BACKEND": "disabled://"}):
        status, text = refusal("call", ADD, "-a", "[1, 2]", "--wait")
    assert status == 1
    assert "set RESULT_BACKEND" in text


@pytest.mark.parametrize("option", [["--eta", "soon"], ["--expires", "later"], ["--countdown", "x"], ["--priority", "high"]])
def test_call_refuses_options_that_can_not_be(option):
    """An option that is no time or number is wrong usage."""
    refusal("call", ADD, "-a", "[1, 2]", *option)
    assert not Message.objects.exists()


@pytest.mark.parametrize("name", ["tests.sampleapp.task.add", "sampleapp.add", "tests.sampleapp.tasks.ad"])
def test_call_names_the_nearest_task(name):
    """An unknown name is refused, naming the task that was probably meant."""
    status, text = refusal("call", name)
    assert status == 1
    assert f"did you mean '{ADD}'" in text
    assert not Message.objects.exists()


def test_call_with_force_sends_an_unknown_task():
    """--force sends a name that only a worker elsewhere knows."""
    run("call", "elsewhere.task", "--force", "-a", "[1]")
    assert Message.objects.get().task == "elsewhere.task"


def test_call_waits_for_the_result(settings):
    """--wait prints the result; a failed task gives exit status 1 and its error."""
    settings.DJANGO_TASKS = {"TASK_ALWAYS_EAGER": True, "TASK_STORE_EAGER_RESULT": True}
    status, text = run("call", ADD, "-a", "[2, 3]", "--wait", "5")
    assert status == 0
    assert "5" in text.splitlines()[1]
    found = answer("call", ADD, "-a", "[2, 3]", "--wait", "5")
    assert (found["task"], found["state"], found["result"]) == (ADD, "SUCCESS", 5)
    status, text = run("call", "tests.sampleapp.tasks.fail", "--wait", "5")
    assert status == 1
    assert "ValueError: broken" in text
    assert "Traceback" in text


@pytest.mark.django_db(transaction=True)
def test_call_waits_no_longer_than_it_is_told():
    """--wait with a number of seconds gives up after them, with exit status 1."""
    status, text = refusal("call", ADD, "-a", "[2, 3]", "--wait", "0.05")
    assert status == 1
    assert "had no result after 0.05 s" in text


# -- result


def test_result_shows_what_is_known():
    """State, value and circumstances are printed; a traceback only when asked for."""
    store("good", runtime=0.5, worker="w1", queue="slow")
    found = answer("result", "good")
    assert (found["state"], found["result"], found["runtime"], found["worker"], found["queue"]) == ("SUCCESS", 5, 0.5, "w1", "slow")
    error = json.dumps({"exc_type": "ValueError", "exc_message": ["broken"], "exc_module": "builtins"})
    store("bad", status=states.FAILURE, result=error, traceback="Traceback\n  line")
    text = run("result", "bad")[1]
    assert "ValueError: broken" in text
    assert "Traceback" not in text
    assert "Traceback" in run("result", "bad", "--traceback")[1]


def test_result_knows_what_waits():
    """A task without a result, but with a message in a queue, is PENDING there."""
    sent = app.send_task(ADD, (1, 2), queue="slow")
    found = answer("result", sent.id)
    assert (found["state"], found["queue"], found["message"]) == ("PENDING", "slow", "ready")


def test_result_of_an_unknown_id():
    """An id that nobody knows gives exit status 1; a dead letter with it is named."""
    status, text = refusal("result", "none-such")
    assert status == 1
    assert "nothing is known of 'none-such'" in text
    letter = bury()
    assert f"tasks dead show {letter.pk}" in refusal("result", "dead-id")[1]


@pytest.mark.django_db(transaction=True)
def test_result_waits():
    """--wait returns at once for what is done, and gives up after its seconds for what isn't."""
    store("good")
    assert answer("result", "good", "--wait", "5")["result"] == 5
    status, text = refusal("result", "none-such", "--wait", "0.05")
    assert status == 1
    assert "had no result" in text


def test_a_result_that_can_not_be_decoded_is_reported():
    """A stored result of a refused type is said to be unreadable, no crash."""
    store("odd", content_type="application/x-python-serialize", content_encoding="base64", result="gASVAA==")
    assert "can't be decoded" in answer("result", "odd")["result"]


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
    """Pausing and resuming change the row that workers read; resuming what isn't paused gives exit status 1."""
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


# -- the command itself


@pytest.mark.parametrize("name", ["inspect", "control", "report"])
def test_commands_to_come_say_so(name):
    """Celery's other words exist, say that they come later, and exit with 2."""
    status, text = refusal(name, "active", "--json")
    assert status == 2
    assert "comes with a later release" in text


def test_exit_status_and_help_in_a_process(child_environment):
    """From a shell: help names every subcommand, and wrong usage exits with 2."""
    command = [sys.executable, "-m", "django", "tasks"]
    shown = subprocess.run([*command, "--help"], env=child_environment, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0
    for word in ("list", "call", "result", "purge", "queues", "status", "dead", "  manage.py tasks list\n"):
        assert word in shown.stdout
    late = subprocess.run([*command, "inspect", "active"], env=child_environment, capture_output=True, text=True, timeout=60)
    assert late.returncode == 2
    assert "later release" in late.stderr


def test_a_reader_that_goes_away_is_no_error(child_environment):
    """`tasks list | head -1` ends quietly."""
    command = [sys.executable, "-m", "django", "tasks", "list"]
    with subprocess.Popen(command, env=child_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(60) == 0


@pytest.mark.parametrize("name", ["list", "call", "result", "purge", "queues", "status", "dead"])
def test_every_subcommand_has_help(name, capsys):
    """--help explains each subcommand and every option of it."""
    with pytest.raises(SystemExit):
        call_command("tasks", name, "--help")
    text = capsys.readouterr().out
    assert "--json" in text
    assert len(text) > 200


def test_a_broker_that_can_not_be_used_is_said_in_one_line(settings):
    """A wrong BROKER_URL ends the command with a sentence, not a traceback."""
    settings.DJANGO_TASKS = {"BROKER_URL": "nonsense://x"}
    status, text = refusal("queues")
    assert status == 1
    assert "nonsense" in text


def test_tables_align():
    """Columns are as wide as their widest cell, wide characters count twice, numbers stand on the right."""
    rows = [{"name": "日本", "size": 5, "x": False}, {"name": "a", "size": 1234, "x": True}]
    assert table(rows, ["name", "size", "x"]).splitlines() == ["NAME  SIZE  X", "日本     5  no", "a     1234  yes"]
