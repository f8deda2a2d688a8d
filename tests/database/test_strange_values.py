"""What tasks return and say may be strange: the admin's pages open all the same, and commands print it."""

import io
import json
import logging

import pytest
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from django_tasks import shared_task
from django_tasks.models import RevokedStamp, TaskResult
from django_tasks.testing import run_pending

pytestmark = pytest.mark.django_db

#: A file's name that is no UTF-8, as Python has it.
NAME = "caf\udce9"


@shared_task(name="tests.strange.give")
def give(value):
    """Return it."""
    return value


@shared_task(name="tests.strange.fail")
def fail(value):
    """Fail with it."""
    raise ValueError(value)


@pytest.fixture
def browser():
    client = Client()
    client.force_login(User.objects.create_superuser("ada", "ada@example.org", "x"))
    return client


def page(browser, row, name="change"):
    response = browser.get(reverse(f"admin:django_tasks_taskresult_{name}", args=[row.pk]))
    assert response.status_code == 200
    return response.content.decode()


@pytest.mark.parametrize("task", [give, fail])
def test_pages_of_what_is_no_unicode(browser, task, caplog):
    """It is shown as JSON writes it, and the form to run it again sends the same."""
    # What is logged travels between processes of pytest, which can't send it.
    caplog.set_level(logging.CRITICAL, "django_tasks")
    task.delay(NAME)
    run_pending()
    row = TaskResult.objects.get()
    assert r"caf\udce9" in page(browser, row)
    page(browser, row, "workflow")
    form = browser.get(reverse("admin:django_tasks_taskresult_again", args=[row.pk])).context["form"]
    assert json.loads(form.initial["args"]) == [NAME]


@pytest.mark.parametrize("as_json", [False, True])
def test_commands_print_what_is_no_unicode(as_json):
    """As text and as a document, in whatever the terminal writes."""
    call = give.delay(NAME)
    run_pending()
    with io.TextIOWrapper(io.BytesIO(), "utf-8") as out:
        call_command("tasks", "result", call.id, *(["--json"] if as_json else []), stdout=out)
        out.seek(0)
        written = out.read()
    assert r"caf\udce9" in written
    assert not as_json or json.loads(written)["result"] == NAME


RESULTS = {
    "more than any float": '{"done": 1' + "0" * 400 + "}",
    "a total of more than any float": '{"done": 1, "total": 1' + "0" * 400 + "}",
    "no number": '{"done": NaN, "total": NaN}',
    "lists in lists": "[" * 5000 + "]" * 5000,
}


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_pages_of_states_that_say_strange_things(browser, result):
    """A number larger than any float, none at all, lists in lists in lists."""
    give.delay(1)
    run_pending()
    TaskResult.objects.update(status="PROGRESS", result=result)
    page(browser, TaskResult.objects.get())


def test_null_is_no_stamp(browser):
    """The form says so."""
    response = browser.post(reverse("admin:django_tasks_revokedstamp_add"), {"name": "tenant", "value": "null"})
    assert "null is no value of a stamp" in response.content.decode()
    assert not RevokedStamp.objects.exists()
