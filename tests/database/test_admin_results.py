"""The admin of results: lists, pages, running again, revoking, deleting; with which permissions."""

import json
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.urls import reverse

from django_tasks import clock, states
from django_tasks.admin import results
from django_tasks.admin.operating import BoundedPaginator
from django_tasks.models import GroupResult, Message, Rerun, Revocation, TaskResult, Worker
from django_tasks.serializers import dumps_json

pytestmark = pytest.mark.django_db

LIST = "admin:django_tasks_taskresult_changelist"
PAGE = "admin:django_tasks_taskresult_change"
DO = "admin:django_tasks_taskresult_do"
AGAIN = "admin:django_tasks_taskresult_again"
ADD = "tests.sampleapp.tasks.add"


def make(task_id="one", **fields):
    values = {
        "task_name": ADD,
        "task_args": "[2, 3]",
        "task_kwargs": "{}",
        "status": states.SUCCESS,
        "result": "5",
        "queue": "slow",
        "worker": "w1@host",
        "runtime": 0.012,
        "date_created": clock.now(),
        "date_done": clock.now(),
    }
    return TaskResult.objects.create(task_id=task_id, **{**values, **fields})


def staff(client, *codenames):
    """Log in somebody who may do just this."""
    user = User.objects.create_user("staff", password="x", is_staff=True)
    user.user_permissions.set(Permission.objects.filter(codename__in=codenames, content_type__app_label="django_tasks"))
    assert user.user_permissions.count() == len(codenames)
    client.force_login(user)
    return user


def told(response):
    return [str(message) for message in response.context["messages"]]


def test_the_list_shows_what_matters(admin_client):
    """Task, id, state, worker, queue and run time of every result are in the list."""
    make("one-id")
    page = admin_client.get(reverse(LIST)).content.decode()
    for text in (ADD, "one-id", "SUCCESS", "dt-good", "w1@host", "slow", "12 ms"):
        assert text in page


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"status": "FAILURE"}, {"bad"}),
        ({"task_name": "other.task"}, {"bad"}),
        ({"queue": "fast"}, {"bad"}),
        ({"worker": "w1@host"}, {"good", "bad"}),
        ({"status": "NONE-SUCH"}, set()),
    ],
)
def test_filters_narrow_the_list(admin_client, query, expected):
    """Each filter leaves exactly the rows with its value, and a value that nobody has leaves none."""
    make("good")
    make("bad", status=states.FAILURE, task_name="other.task", queue="fast")
    response = admin_client.get(reverse(LIST), query)
    assert response.status_code == 200
    assert {row.task_id for row in response.context["cl"].result_list} == expected


@pytest.mark.parametrize(
    ("term", "expected"),
    [
        ("id-1", {"id-1"}),
        ("sampleapp", {"id-1"}),
        ("needle", {"id-2"}),
        ("group-7", {"id-2"}),
        ("id-", set()),
        ("0a1b2c3d", {"0a1b2c3d-long-id"}),
        ("0a1b2c3d…", {"0a1b2c3d-long-id"}),
        ("ValueError", {"0a1b2c3d-long-id"}),
        ("such café", {"0a1b2c3d-long-id"}),
        ("nightly report", {"0a1b2c3d-long-id"}),
        ("nothing", set()),
    ],
)
def test_search_finds_ids_names_arguments_and_groups(admin_client, term, expected):
    """A whole id finds its result; else: beginnings as lists show them, names, schedules, arguments, workflow ids, errors."""
    make("id-1")
    make("id-2", task_name="other", task_args='["a needle"]', group_id="group-7")
    error = dumps_json({"exc_type": "ValueError", "exc_message": ["no such café"], "exc_module": "builtins"})
    make("0a1b2c3d-long-id", task_name="third", task_args="[]", status=states.FAILURE, result=error, periodic_task_name="nightly report")
    response = admin_client.get(reverse(LIST), {"q": term})
    assert {row.task_id for row in response.context["cl"].result_list} == expected


def test_searching_an_id_reads_no_other_row(admin_client, django_assert_max_num_queries):
    """Looking for an id uses the index alone: no query has a LIKE."""
    make("id-1")
    with django_assert_max_num_queries(20) as captured:
        admin_client.get(reverse(LIST), {"q": "id-1"})
    assert not [query["sql"] for query in captured.captured_queries if "LIKE" in query["sql"]]


def test_search_reads_the_newest_results_only(admin_client, monkeypatch):
    """A search that no index can help is bounded."""
    monkeypatch.setattr(results, "SEARCHED", 1)
    make("old", task_args='["needle"]')
    make("new", task_args='["needle"]')
    response = admin_client.get(reverse(LIST), {"q": "needle"})
    assert [row.task_id for row in response.context["cl"].result_list] == ["new"]


def test_a_long_list_is_counted_no_further_than_its_limit(admin_client, monkeypatch):
    """Counting stops at the limit, and the page says so."""
    monkeypatch.setattr(BoundedPaginator, "limit", 3)
    for number in range(5):
        make(f"id-{number}")
    response = admin_client.get(reverse(LIST))
    assert response.context["cl"].result_count == 3
    assert "There may be more" in response.content.decode()


def test_no_query_of_the_list_reads_the_whole_table(admin_client, django_assert_max_num_queries, monkeypatch):
    """Every query over a list of several pages has a LIMIT."""
    monkeypatch.setattr(results.TaskResultAdmin, "list_per_page", 1)
    make("one")
    make("two")
    with django_assert_max_num_queries(20) as captured:
        admin_client.get(reverse(LIST))
    queries = [query["sql"] for query in captured.captured_queries if "django_tasks_taskresult" in query["sql"]]
    assert queries
    assert not [query for query in queries if "LIMIT" not in query]
    assert not [query for query in queries if "DISTINCT" in query]


def test_lists_leave_the_long_texts_in_the_database(admin_client, django_assert_max_num_queries):
    """Results and tracebacks, which can be megabytes, are not read for a list."""
    make(traceback="Traceback…")
    with django_assert_max_num_queries(20) as captured:
        admin_client.get(reverse(LIST))
    assert not [query["sql"] for query in captured.captured_queries if '"traceback"' in query["sql"]]


def test_the_page_shows_the_outcome_readably(admin_client):
    """Arguments and results are indented JSON, the traceback is preformatted, and nothing can be edited."""
    row = make(status=states.FAILURE, result='{"exc_type":"ValueError"}', traceback="Traceback <b>", task_kwargs='{"name":"Zoë"}')
    page = admin_client.get(reverse(PAGE, args=[row.pk])).content.decode()
    assert "{\n  &quot;exc_type&quot;: &quot;ValueError&quot;\n}" in page
    assert "Zoë" in page
    assert '<pre class="dt-code">Traceback &lt;b&gt;</pre>' in page
    assert "_save" not in page


def test_the_page_is_found_by_task_id(admin_client):
    """The address takes the task's id as well as the row's number."""
    make("7d3a-id")
    assert admin_client.get(reverse(PAGE, args=["7d3a-id"])).status_code == 200
    assert admin_client.get(reverse(PAGE, args=["none-such"])).status_code == 302


@pytest.mark.parametrize("meta", [None, "", "no json", "[]", '{"children": 5}', '{"children": [null, [[]], "x"]}'])
def test_any_meta_can_be_shown(admin_client, meta):
    """Whatever lies in meta, the page opens."""
    row = make(meta=meta, result="{broken", task_args="(1, 2)")
    assert admin_client.get(reverse(PAGE, args=[row.pk])).status_code == 200


def test_the_workflow_is_linked(admin_client):
    """Parent, root, children and group lead to their own pages."""
    group = GroupResult.objects.create(group_id="g", result=json.dumps([[["child", None], None]]), date_created=clock.now())
    parent, child = make("parent"), make("child")
    row = make("me", parent_id="parent", root_id="gone", group_id="g", meta=json.dumps({"children": [[["child", "me"], None]]}))
    page = admin_client.get(reverse(PAGE, args=[row.pk])).content.decode()
    for target in (reverse(PAGE, args=[parent.pk]), reverse(PAGE, args=[child.pk])):
        assert f'href="{target}"' in page
    assert reverse("admin:django_tasks_groupresult_change", args=[group.pk]) in page
    assert "gone" in page
    group_page = admin_client.get(reverse("admin:django_tasks_groupresult_change", args=[group.pk])).content.decode()
    assert reverse(PAGE, args=[child.pk]) in group_page


def test_selected_tasks_run_again(admin_client):
    """The action sends name, arguments and queue of each row once more, under a new id, and writes to the log."""
    row = make(task_args='[{"__type__": "datetime", "__value__": "2026-01-02T03:04:05+00:00"}, 1]')
    response = admin_client.post(reverse(LIST), {"action": "run_again", "_selected_action": [row.pk], "index": 0}, follow=True)
    message = Message.objects.get()
    assert (message.task, message.queue) == (ADD, "slow")
    assert message.task_id != row.task_id
    assert json.loads(bytes(message.body))[0] == json.loads(row.task_args)
    assert told(response) == ["1 task was sent again."]
    assert "Run again" in LogEntry.objects.get().change_message


def test_many_tasks_run_again_in_one_publish(admin_client, django_assert_max_num_queries):
    """All of a list are sent by a few statements, and not by some for each."""
    now = clock.now()
    row = make()
    more = [TaskResult(task_id=f"r{n}", task_name=ADD, task_args="[2, 3]", task_kwargs="{}", date_created=now) for n in range(300)]
    TaskResult.objects.bulk_create(more)
    values = {"action": "run_again", "select_across": "1", "_selected_action": [row.pk], "index": 0, "confirmed": "yes"}
    with django_assert_max_num_queries(40):
        admin_client.post(reverse(LIST), values)
    assert Message.objects.count() == 301


def test_a_call_that_cannot_be_sent_again_keeps_no_other_from_it(admin_client):
    """What no queue takes is named with its reason, the first ten; the others are sent."""
    row = make()
    for n in range(12):
        make(f"bad{n}", queue="a\x01b")
    values = {"action": "run_again", "select_across": "1", "_selected_action": [row.pk], "index": 0, "confirmed": "yes"}
    response = admin_client.post(reverse(LIST), values, follow=True)
    assert Message.objects.count() == 1
    *reasons, rest, done = told(response)
    assert len(reasons) == 10
    assert all("bad" in reason for reason in reasons)
    assert (rest, done) == ("… and 2 more were not sent.", "1 task was sent again.")


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"task_args": None}, "were not kept"),
        ({"task_kwargs": None}, "were not kept"),
        ({"task_args": "(2, 3)"}, "no JSON"),
        ({"task_args": '"(2, 3)"'}, "not a JSON array"),
        ({"task_kwargs": "[]"}, "not a JSON object"),
        ({"task_name": None}, "name was not kept"),
    ],
)
def test_what_was_not_kept_is_not_run_again(admin_client, fields, why):
    """Without name or arguments nothing is sent, and the message says why."""
    row = make(**fields)
    response = admin_client.post(reverse(LIST), {"action": "run_again", "_selected_action": [row.pk], "index": 0}, follow=True)
    assert not Message.objects.exists()
    assert why in told(response)[0]


def test_a_task_runs_again_with_other_arguments(admin_client):
    """The page of one result asks for the arguments first, filled with those of then."""
    row = make()
    response = admin_client.post(reverse(DO, args=[row.pk, "run_again"]), follow=True)
    assert response.redirect_chain[-1][0] == reverse(AGAIN, args=[row.pk])
    assert not Message.objects.exists()
    assert "[\n  2,\n  3\n]" in response.content.decode()
    values = {"args": "[5]", "kwargs": '{"y": 6}', "queue": ""}
    response = admin_client.post(reverse(AGAIN, args=[row.pk]), values, follow=True)
    assert "was sent again as" in told(response)[0]
    message = Message.objects.get()
    assert json.loads(bytes(message.body))[:2] == [[5], {"y": 6}]
    assert message.queue == "default"
    assert message.task_id in LogEntry.objects.get().change_message


@pytest.mark.parametrize(("args", "says"), [("[5", "here:\n  [5"), ('{"a": 1}', "must be a JSON array"), ("", "required")])
def test_arguments_that_are_no_json_are_shown_where_they_are_wrong(admin_client, args, says):
    """A mistake in the arguments is pointed at, and nothing is sent."""
    row = make()
    response = admin_client.post(reverse(AGAIN, args=[row.pk]), {"args": args, "kwargs": "{}", "queue": ""})
    assert response.status_code == 200
    assert says in response.content.decode()
    assert not Message.objects.exists()


def test_revoking(admin_client, admin_user):
    """Tasks that may still run are revoked, with who did it; those that are done are left alone."""
    waiting, done = make("waiting", status=states.RETRY, date_done=None), make("done")
    values = {"action": "revoke", "_selected_action": [waiting.pk, done.pk], "index": 0}
    response = admin_client.post(reverse(LIST), values, follow=True)
    revocation = Revocation.objects.get()
    assert (revocation.task_id, revocation.terminate, revocation.revoked_by) == ("waiting", False, admin_user.username)
    assert told(response) == ["1 task will never be started."]
    response = admin_client.post(reverse(LIST), {**values, "_selected_action": [done.pk]}, follow=True)
    assert "Nothing was revoked" in told(response)[0]


@pytest.mark.parametrize(
    ("action", "pool", "says"),
    [
        ("revoke", "prefork", "1 task runs already, and goes on: it is not started again. “Stop it now” ends it."),
        ("terminate", "prefork", "1 task is being stopped: its worker hears of it within two seconds."),
        ("terminate", "solo", "1 task goes on: nothing can interrupt what a worker runs with threads or solo. It is not started again."),
        ("terminate", None, "1 task is not started again; the worker that ran it is not alive."),
    ],
)
def test_two_buttons_of_a_task_that_runs(admin_client, action, pool, says):
    """One lets it run on and never start again, the other stops it; the message says which happened, and what can't."""
    row, now = make("runs", status=states.STARTED), clock.now()
    if pool:
        node = {"host": "host", "pid": 1, "pool": pool, "concurrency": 2, "started_at": now, "heartbeat_at": now}
        Worker.objects.create(instance="i", name="w1@host", queues=[], **node)
    page = admin_client.get(reverse(PAGE, args=[row.pk])).content.decode()
    assert "Never start it</button>" in page
    assert "Stop it now</button>" in page
    response = admin_client.post(reverse(DO, args=[row.pk, action]), follow=True)
    assert told(response) == [says]
    assert Revocation.objects.get().terminate == (action == "terminate")


def test_deleting(admin_client):
    """Results can be deleted, one or many, after a confirmation."""
    rows = [make(f"id-{number}") for number in range(3)]
    values = {"action": "delete_selected", "_selected_action": [row.pk for row in rows[:2]], "index": 0}
    page = admin_client.post(reverse(LIST), values)
    assert "Are you sure" in page.content.decode()
    assert TaskResult.objects.count() == 3
    admin_client.post(reverse(LIST), {**values, "post": "yes"})
    assert [row.task_id for row in TaskResult.objects.all()] == ["id-2"]
    admin_client.post(reverse("admin:django_tasks_taskresult_delete", args=[rows[2].pk]), {"post": "yes"})
    assert not TaskResult.objects.exists()


def test_all_of_a_list_is_taken_in_portions(admin_client, monkeypatch):
    """«Select all» over a large table takes a bounded number of rows, and says so."""
    monkeypatch.setattr("django_tasks.admin.operating.MOST_DELETED", 2)
    rows = [make(f"id-{number}") for number in range(4)]
    values = {"action": "delete_selected", "_selected_action": [rows[0].pk], "index": 0, "select_across": 1}
    response = admin_client.post(reverse(LIST), values)
    assert len(response.context["queryset"]) == 2
    assert "first 2 are taken" in told(response)[0]


def test_nobody_adds_or_changes_results(admin_client):
    """There is no add page, and posting to a page changes nothing."""
    row = make()
    assert admin_client.get(reverse("admin:django_tasks_taskresult_add")).status_code == 403
    assert admin_client.post(reverse(PAGE, args=[row.pk]), {"status": "FAILURE"}).status_code == 403


def test_viewers_only_view(client):
    """Who may only view sees list and page, without actions or buttons, and can't act by address either."""
    staff(client, "view_taskresult")
    row = make("runs", status=states.STARTED)
    response = client.get(reverse(LIST))
    assert response.status_code == 200
    assert 'name="action"' not in response.content.decode()
    page = client.get(reverse(PAGE, args=[row.pk])).content.decode()
    assert "/do/" not in page
    for action in ("run_again", "revoke", "terminate"):
        assert client.post(reverse(DO, args=[row.pk, action])).status_code == 403
    assert client.get(reverse(AGAIN, args=[row.pk])).status_code == 403
    client.post(reverse(LIST), {"action": "revoke", "_selected_action": [row.pk], "index": 0})
    assert not Revocation.objects.exists()
    assert not Message.objects.exists()


@pytest.mark.parametrize(
    ("codename", "offers"),
    [("rerun_taskresult", {"run_again"}), ("revoke_taskresult", {"revoke", "terminate"}), ("delete_taskresult", set())],
)
def test_each_action_has_its_own_permission(client, codename, offers):
    """A permission allows its own action and no other."""
    staff(client, "view_taskresult", codename)
    row = make("runs", status=states.STARTED)
    page = client.get(reverse(PAGE, args=[row.pk])).content.decode()
    for action in ("run_again", "revoke", "terminate"):
        assert (reverse(DO, args=[row.pk, action]) in page) == (action in offers)
        assert (client.post(reverse(DO, args=[row.pk, action])).status_code == 302) == (action in offers)


def test_more_than_one_is_asked_about_and_so_is_a_second_time(admin_client, admin_user):
    """The page that asks says how many; who presses twice, or again later, is asked again; both tasks say what became of what."""
    rows = [make("one"), make("two")]
    values = {"action": "run_again", "_selected_action": [row.pk for row in rows], "index": 0}
    page = admin_client.post(reverse(LIST), values)
    assert "2 tasks are sent once more" in page.content.decode()
    assert not Message.objects.exists()
    answer = {"action": "run_again", "confirmed": "yes", "confirmed_rows": ",".join(str(row.pk) for row in rows), "known_reruns": "0"}
    assert told(admin_client.post(reverse(LIST), answer, follow=True)) == ["2 tasks were sent again."]
    page = admin_client.post(reverse(LIST), answer)
    assert "Run again 2 times already" in page.content.decode()
    page = admin_client.post(reverse(LIST), {**values, "_selected_action": [rows[0].pk]})
    assert f"by {admin_user.username}" in page.content.decode()
    assert Message.objects.count() == 2
    new = make(Rerun.objects.get(task_id="one").new_id)
    old_page, new_page = (admin_client.get(reverse(PAGE, args=[row.pk])).content.decode() for row in (rows[0], new))
    assert f'href="{reverse(PAGE, args=[new.pk])}"' in old_page
    assert f'href="{reverse(PAGE, args=[rows[0].pk])}"' in new_page
    form = {"args": "[5]", "kwargs": "{}", "queue": "", "known_reruns": "0"}
    assert "Run again once already" in admin_client.post(reverse(AGAIN, args=[rows[0].pk]), form).content.decode()
    assert Message.objects.count() == 2


def test_times_of_a_task_that_runs(admin_client):
    """Its run time is what has passed since it started, not the nothing that is stored; how long it waited is shown."""
    now = clock.now()
    sent, started = now - timedelta(minutes=5), now - timedelta(minutes=3, seconds=1)
    row = make(status=states.STARTED, runtime=0.0, date_created=sent, date_started=started, date_done=None)
    for address in (reverse(LIST), reverse(PAGE, args=[row.pk])):
        page = admin_client.get(address).content.decode()
        assert "3 min" in page
        assert "so far" in page
        assert "119" in page or "2 min" in page or "1 min 59 s" in page
        assert "0.0 ms" not in page


def test_without_permission_nothing_is_shown(client):
    """Staff without any permission sees no results at all."""
    staff(client)
    row = make()
    assert client.get(reverse(LIST)).status_code == 403
    assert client.get(reverse(PAGE, args=[row.pk])).status_code == 403


def test_buttons_are_for_posting(admin_client):
    """Following a button's address with GET does nothing; an unknown action is not found."""
    row = make()
    assert admin_client.get(reverse(DO, args=[row.pk, "run_again"])).status_code == 404
    assert admin_client.post(reverse(DO, args=[row.pk, "delete_selected"])).status_code == 404
    assert admin_client.post(reverse(DO, args=[999_999, "run_again"])).status_code == 302


@pytest.mark.parametrize(
    ("runtime", "shown"), [(None, "-"), (0.0004, "0.4 ms"), (0.25, "250 ms"), (5.04, "5.0 s"), (125.0, "2 min 5 s"), (90061.0, "1 day 1 h")]
)
def test_run_times_are_readable(runtime, shown):
    """A run time is written in the unit that suits it."""
    from django_tasks.admin.display import seconds

    assert seconds(runtime) == shown


def test_the_date_filter_uses_the_done_date(admin_client):
    """«Today» leaves out what was done yesterday."""
    make("old", date_done=clock.now() - timedelta(days=2))
    make("new")
    response = admin_client.get(reverse(LIST), {"date_done__gte": str(clock.now() - timedelta(days=1))})
    assert [row.task_id for row in response.context["cl"].result_list] == ["new"]
