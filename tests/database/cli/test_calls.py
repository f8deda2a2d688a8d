"""``manage.py tasks``: the tasks that there are, calling them, and their results."""

import json
from datetime import timedelta

import pytest
from django.test import override_settings

from django_tasks import app, clock, states
from django_tasks.models import Message
from tests.database.cli.commandline import ADD, answer, bury, refusal, run, store

pytestmark = pytest.mark.django_db


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
        (["-a", "[1, 2]", "--countdown", "1e18"], "was not sent: tests.sampleapp.tasks.add: countdown takes a number of seconds"),
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


@pytest.mark.parametrize("name", ["no.such", "shop.tasks.xylophone", "tests.sampleapp.tasks.quixotic"])
def test_call_names_no_task_that_only_lies_beside(name):
    """Where no name is like it, none is suggested: those of one package are alike in all but their last part."""
    status, text = refusal("call", name)
    assert status == 1
    assert "did you mean" not in text
    assert "`tasks list` shows those there are" in text


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
    began = clock.now() - timedelta(minutes=5)
    store("long", status=states.STARTED, date_created=began - timedelta(seconds=30), date_started=began, date_done=None, result=None)
    running = answer("result", "long")
    assert running["runtime"] >= 300
    assert running["waited"] == 30
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
