"""The admin of periodic tasks: our tasks to choose from, what comes next, and running one now."""

import json
from datetime import timedelta

import pytest
from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.auth.models import Permission, User
from django.core.management import call_command
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import ClockedSchedule, CrontabSchedule, IntervalSchedule, PeriodicTask, PeriodicTasks, SolarSchedule

import django_tasks.admin.periodic
from django_tasks import conf
from django_tasks.beat import runs
from django_tasks.models import BeatRun, BeatTerm, Message
from django_tasks.registry import registry
from django_tasks.schedules import crontab

pytestmark = pytest.mark.django_db

NO_TASKS = {"periodictask_set-TOTAL_FORMS": 0, "periodictask_set-INITIAL_FORMS": 0}
LIST = "/admin/django_celery_beat/periodictask/"


@pytest.fixture
def client() -> Client:
    """An administrator's browser."""
    browser = Client()
    browser.force_login(User.objects.create_superuser("root"))
    return browser


@pytest.fixture
def staff() -> User:
    """Someone who may look at periodic tasks, no more."""
    user = User.objects.create_user("staff", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_periodictask"))
    return user


@pytest.fixture
def known_task(monkeypatch):
    """A registered task."""

    class Known:
        name = "shop.tasks.count"

        def call_options(self, args, kwargs, options):
            return {"queue": "counting", **options}

    monkeypatch.setitem(registry._tasks, Known.name, Known())
    return Known.name


def periodic(name="beat", **fields):
    if not fields.keys() & {"crontab", "solar", "clocked"}:
        fields["interval"], _ = IntervalSchedule.objects.get_or_create(every=10, period="minutes")
    return PeriodicTask.objects.create(**{"name": name, "task": "shop.tasks.count", **fields})


def act(client, action, *rows):
    return client.post(LIST, {"action": action, "_selected_action": [row.pk for row in rows]}, follow=True)


def form_data(**fields):
    return {"args": "[]", "kwargs": "{}", "headers": "{}", "enabled": "on", "name": "new", **fields}


def test_our_tasks_are_to_choose_from(client, known_task):
    """The registry's names are offered, not those of a Celery app."""
    page = client.get(reverse("admin:django_celery_beat_periodictask_add"))
    choices = dict(page.context["adminform"].form.fields["regtask"].choices)
    assert known_task in choices
    assert not any(name.startswith("celery.") for name in choices)


def test_a_chosen_task_is_saved_and_shown_as_chosen(client, known_task):
    """The name lands in the row, and the form shows it where it was chosen."""
    interval = IntervalSchedule.objects.create(every=1, period="hours")
    page = client.post(reverse("admin:django_celery_beat_periodictask_add"), form_data(regtask=known_task, interval=interval.pk))
    assert page.status_code == 302, page.context["errors"]
    row = PeriodicTask.objects.get()
    assert row.task == known_task
    form = client.get(reverse("admin:django_celery_beat_periodictask_change", args=[row.pk])).context["adminform"].form
    assert (form.initial["regtask"], form.initial["task"]) == (known_task, "")


def test_a_task_of_another_project_can_be_named(client):
    """What isn't registered here may well be known to a worker elsewhere."""
    interval = IntervalSchedule.objects.create(every=1, period="hours")
    client.post(reverse("admin:django_celery_beat_periodictask_add"), form_data(task="elsewhere.tasks.x", interval=interval.pk))
    assert PeriodicTask.objects.get().task == "elsewhere.tasks.x"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "Need name of task"),
        ({"task": "x", "regtask": "shop.tasks.count"}, "not both"),
        ({"task": "x", "args": "[1"}, "Unable to parse JSON"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused(client, known_task, fields, text):
    """It says what is wrong."""
    interval = IntervalSchedule.objects.create(every=1, period="hours")
    page = client.post(reverse("admin:django_celery_beat_periodictask_add"), form_data(interval=interval.pk, **fields))
    assert page.status_code == 200
    assert text in page.content.decode()


def test_a_crontab_that_can_not_be_is_refused(client):
    """31 February passes django-celery-beat's own form, and would never run."""
    crontab = CrontabSchedule.objects.create(minute="0", day_of_month="31", month_of_year="2")
    page = client.post(reverse("admin:django_celery_beat_periodictask_add"), form_data(task="x", crontab=crontab.pk))
    assert page.status_code == 200
    assert "its crontab" in page.content.decode()
    assert not PeriodicTask.objects.exists()


def test_the_next_run_is_shown(client):
    """In the list and, with those after it, on the task's page."""
    row = periodic(crontab=CrontabSchedule.objects.create(minute="7", hour="4", timezone="UTC"))
    now = timezone.now()
    due = now.replace(hour=4, minute=7, second=0, microsecond=0)
    due += timedelta(days=1) if due <= now else timedelta(0)
    assert due.isoformat() in client.get(LIST).content.decode()
    page = client.get(reverse("admin:django_celery_beat_periodictask_change", args=[row.pk])).content.decode()
    assert all((due + timedelta(days=days)).isoformat() in page for days in range(5))


def test_a_broken_row_says_what_is_wrong(client):
    """The list opens all the same."""
    periodic(crontab=CrontabSchedule.objects.create(minute="99"))
    disabled = periodic("off", enabled=False)
    page = client.get(LIST).content.decode()
    assert "minute is &#x27;99&#x27;" in page
    assert disabled.name in page


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("timezone", "US/Pacific-New", "US/Pacific-New"),
        ("timezone", "../etc", "../etc"),
        ("minute", "", "minute is &#x27;&#x27;"),
        ("hour", "1,", "hour is &#x27;1,&#x27;"),
        ("minute", "*/", "minute is &#x27;*/&#x27;"),
        ("day_of_week", "-5", "day_of_week is &#x27;-5&#x27;"),
        ("day_of_month", "1-5/", "day_of_month is &#x27;1-5/&#x27;"),
        ("month_of_year", "0", "month_of_year is &#x27;0&#x27;"),
    ],
)
def test_a_crontab_that_no_one_can_read_breaks_no_page(client, column, value, text):
    """Each page opens, of this row and of others, and the lists say which row is broken, and why. It can be deleted."""
    bad, good = CrontabSchedule.objects.create(minute="3"), CrontabSchedule.objects.create(minute="4")
    row, sound = periodic("broken one", crontab=bad), periodic("sound", crontab=good)
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE django_celery_beat_crontabschedule SET {column} = %s WHERE id = %s", [value, bad.pk])
    crontabs = "/admin/django_celery_beat/crontabschedule/"
    for page in ("add/", f"{row.pk}/change/", f"{sound.pk}/change/", f"{row.pk}/delete/"):
        assert client.get(LIST + page).status_code == 200
    for page in ("add/", f"{bad.pk}/change/", f"{bad.pk}/delete/"):
        assert client.get(crontabs + page).status_code == 200
    assert text in client.get(LIST).content.decode()
    assert text.replace("&#x27;", "'") in client.get(f"{LIST}{sound.pk}/change/").context["readable_crontabs"][bad.pk]
    assert text in client.get(crontabs).content.decode()
    act(client, "disable_tasks", row)
    refused = client.post(f"{crontabs}{bad.pk}/change/", CrontabSchedule.objects.filter(pk=bad.pk).values().get())
    assert refused.status_code == 200
    assert client.post(f"{crontabs}{bad.pk}/delete/", {"post": "yes"}).status_code == 302
    assert not PeriodicTask.objects.filter(name="broken one").exists()


def test_a_place_where_the_sun_never_does_it_is_refused(client):
    """By the form of the event and by that of the task; the lists say so of what is there."""
    pytest.importorskip("ephem")
    solar = "/admin/django_celery_beat/solarschedule/"
    refused = client.post(f"{solar}add/", {"event": "sunrise", "latitude": "90", "longitude": "0"})
    assert "there is no sunrise at 90" in refused.content.decode()
    assert client.post(f"{solar}add/", {"event": "sunrise", "latitude": "80", "longitude": "0", **NO_TASKS}).status_code == 302
    never = SolarSchedule.objects.create(event="sunset", latitude="90", longitude="0")
    page = client.post(f"{LIST}add/", form_data(task="x", solar=never.pk))
    assert "there is no sunset at 90" in page.content.decode()
    periodic(solar=never)
    for address in (solar, LIST):
        assert "there is no sunset at 90" in client.get(address).content.decode()


def test_a_crontab_without_a_zone_has_that_of_the_settings(client, settings):
    """CELERY_TIMEZONE, or TIMEZONE of ours, which wins; in code, in data migrations, and where the form begins. Nothing is to migrate."""
    historical = MigrationExecutor(connection).loader.project_state().apps.get_model("django_celery_beat", "CrontabSchedule")
    assert str(CrontabSchedule.objects.create(minute="1").timezone) == "UTC"
    settings.CELERY_TIMEZONE = "Europe/Berlin"
    conf.settings.reset()
    try:
        assert str(CrontabSchedule.objects.create(minute="2").timezone) == "Europe/Berlin"
        assert str(historical.objects.create(minute="3").timezone) == "Europe/Berlin"
        settings.DJANGO_TASKS = {"TIMEZONE": "Asia/Tokyo"}
        conf.settings.reset()
        page = client.get("/admin/django_celery_beat/crontabschedule/add/")
        assert str(page.context["adminform"].form["timezone"].value()) == "Asia/Tokyo"
        assert str(CrontabSchedule.from_schedule(crontab(minute="4")).timezone) == "Asia/Tokyo"
        call_command("makemigrations", check=True, dry_run=True, verbosity=0)
    finally:
        conf.settings.reset()


def test_a_crontab_of_sunday_as_seven_is_described_and_runs(client):
    """The form's help offers it."""
    crontabs = "/admin/django_celery_beat/crontabschedule/"
    fields = {"minute": "0", "hour": "9", "day_of_month": "*", "month_of_year": "*", "day_of_week": "6-7", "timezone": "UTC", **NO_TASKS}
    assert client.post(f"{crontabs}add/", fields).status_code == 302
    row = periodic(crontab=CrontabSchedule.objects.get())
    assert "only on Sunday and Saturday" in client.get(crontabs).content.decode()
    assert {moment.weekday() for moment in django_tasks.admin.periodic.next_runs(row, 4)} == {5, 6}


def test_a_clocked_row_shows_its_one_run(client):
    """There is one."""
    when = timezone.now().replace(microsecond=0) + timedelta(days=3)
    row = periodic(clocked=ClockedSchedule.objects.create(clocked_time=when), one_off=True)
    page = client.get(reverse("admin:django_celery_beat_periodictask_change", args=[row.pk])).content.decode()
    assert when.isoformat() in page


def test_a_declared_entry_shows_the_runs_of_its_declaration(client, settings):
    """The row of its name is only a switch."""
    settings.DJANGO_TASKS = {"BEAT_SCHEDULE": {"both": {"task": "t", "schedule": crontab(minute="13", hour="5")}}}
    conf.settings.reset()
    try:
        periodic("both")
        assert "05:13:00" in client.get(LIST).content.decode()
    finally:
        conf.settings.reset()


def test_the_list_costs_as_many_queries_as_one_row(client, django_assert_max_num_queries):
    """Schedules come with their rows."""
    for number in range(30):
        periodic(f"task {number}", crontab=CrontabSchedule.objects.create(minute=str(number)))
    with django_assert_max_num_queries(12):
        assert client.get(LIST).status_code == 200


def test_run_now_sends_the_row_as_it_is(client, known_task, django_capture_on_commit_callbacks):
    """With its arguments and options, under an id of its own, and without touching its schedule."""
    row = periodic(args="[1]", kwargs='{"a": 2}', priority=4, expires=timezone.now() - timedelta(days=1))
    with django_capture_on_commit_callbacks(execute=True):
        page = act(client, "run_tasks", row)
    assert "1 task was sent." in page.content.decode()
    message = Message.objects.get()
    headers = json.loads(message.headers)
    assert (message.task, message.queue, message.priority) == (known_task, "counting", 4)
    assert json.loads(bytes(message.body))[:2] == [[1], {"a": 2}]
    assert headers["periodic_task_name"] == "beat"
    assert not headers.get("expires")
    row.refresh_from_db()
    assert (row.last_run_at, row.total_run_count) == (None, 0)
    run = BeatRun.objects.get()
    assert (run.entry, run.task_id, run.sent_by) == ("beat", message.task_id, "root")
    assert reverse("admin:django_tasks_beatrun_change", args=[run.pk]) in page.content.decode()
    # It is no run of the schedule: what is due next doesn't depend on it.
    assert runs.last_due(["beat"]) == {}
    shown = client.get(reverse("admin:django_tasks_beatrun_changelist")).content.decode()
    assert reverse("admin:django_tasks_taskresult_change", args=[quote(message.task_id)]) in shown


@pytest.mark.parametrize("leads", [False, True])
def test_a_beat_that_has_stopped_is_seen(client, known_task, leads):
    """Runs that are overdue are red, and the list says who led last and until when; a task that nobody here knows is red, too."""
    now = timezone.now()
    BeatTerm.objects.create(name="beat", holder="box:1", elected_at=now, expires_at=now + timedelta(minutes=1 if leads else -5))
    periodic(last_run_at=now - timedelta(hours=1))
    PeriodicTask.objects.update(date_changed=now - timedelta(days=1))
    periodic("other", task="nobody.knows.it", last_run_at=now)
    page = client.get(LIST).content.decode()
    assert ("No beat is running" in page, "led by box:1" in page) == (not leads, not leads)
    assert page.count("and not sent: is a beat running?") == 1
    assert page.count("not known here") == 1


@pytest.mark.parametrize(("term", "found"), [("nightly report", 1), ("ly rep", 1), ("id-77", 1), ("shop.tasks", 1), ("report nightly", 0)])
def test_runs_are_found_by_names_with_spaces_and_by_part(client, term, found):
    """What is searched is one text, not words."""
    BeatRun.objects.create(entry="nightly report", due_at=timezone.now(), task_id="id-77-x", task="shop.tasks.t")
    response = client.get(reverse("admin:django_tasks_beatrun_changelist"), {"q": term})
    assert len(response.context["cl"].result_list) == found


def test_run_now_twice_is_two_runs(client, known_task, django_capture_on_commit_callbacks):
    """Their ids differ."""
    row = periodic()
    with django_capture_on_commit_callbacks(execute=True):
        act(client, "run_tasks", row)
        act(client, "run_tasks", row)
    assert len(set(Message.objects.values_list("task_id", flat=True))) == 2


def test_run_now_leaves_broken_rows_out(client, known_task, django_capture_on_commit_callbacks):
    """It names them and sends the others."""
    broken = periodic("broken one", args="[1,")
    with django_capture_on_commit_callbacks(execute=True):
        page = act(client, "run_tasks", broken, periodic("sound")).content.decode()
    assert "Broken one can&#x27;t be sent" in page
    assert Message.objects.count() == 1


def test_run_now_of_an_unknown_task_warns(client, django_capture_on_commit_callbacks):
    """It may be a typing error, or a task of another project."""
    with django_capture_on_commit_callbacks(execute=True):
        page = act(client, "run_tasks", periodic(task="nobody.knows.it")).content.decode()
    assert "no task named nobody.knows.it" in page
    assert Message.objects.count() == 1


def test_the_page_of_a_task_has_a_button(client, known_task, django_capture_on_commit_callbacks):
    """It posts, and comes back to the page."""
    row = periodic()
    page = client.get(reverse("admin:django_celery_beat_periodictask_change", args=[row.pk]))
    address = reverse("admin:django_celery_beat_periodictask_run", args=[row.pk])
    assert address in page.content.decode()
    assert client.get(address).status_code == 404
    with django_capture_on_commit_callbacks(execute=True):
        assert client.post(address).status_code == 302
    assert Message.objects.count() == 1


def test_who_may_only_look_can_not_act(staff, known_task):
    """No action is offered, and posting one does nothing."""
    browser, row = Client(), periodic()
    browser.force_login(staff)
    assert browser.get(LIST).status_code == 200
    for action in ("run_tasks", "enable_tasks", "disable_tasks", "toggle_tasks"):
        act(browser, action, row)
    assert browser.post(reverse("admin:django_celery_beat_periodictask_run", args=[row.pk])).status_code == 403
    page = browser.get(reverse("admin:django_celery_beat_periodictask_change", args=[row.pk])).content.decode()
    assert "Run now" not in page
    row.refresh_from_db()
    assert row.enabled
    assert not Message.objects.exists()


def test_switching_tells_beat(client):
    """The date of the schedules changes, and the row keeps since when it is on."""
    row = periodic(enabled=False)
    PeriodicTask.objects.update(date_changed=timezone.now() - timedelta(days=9))
    before = PeriodicTasks.last_change()
    assert "1 task was enabled." in act(client, "enable_tasks", row).content.decode()
    row.refresh_from_db()
    assert row.enabled
    assert timezone.now() - row.date_changed < timedelta(minutes=1)
    assert PeriodicTasks.last_change() > before
    act(client, "disable_tasks", row)
    row.refresh_from_db()
    assert not row.enabled
    act(client, "toggle_tasks", row)
    row.refresh_from_db()
    assert row.enabled


def test_switching_what_is_on_already_tells_no_one(client):
    """Nothing has changed."""
    row = periodic()
    before = PeriodicTasks.last_change()
    assert "0 tasks were enabled." in act(client, "enable_tasks", row).content.decode()
    assert PeriodicTasks.last_change() == before


def test_runs_on_record_are_shown_and_stay(client):
    """They can be looked up; deleting one could send it again."""
    run = BeatRun.objects.create(entry="beat", due_at=timezone.now(), task_id="id-1", task="t", sent_at=timezone.now())
    assert "id-1" in client.get(reverse("admin:django_tasks_beatrun_changelist")).content.decode()
    assert client.get(reverse("admin:django_tasks_beatrun_change", args=[run.pk])).status_code == 200
    assert client.post(reverse("admin:django_tasks_beatrun_delete", args=[run.pk])).status_code == 403


def test_our_page_takes_the_place_of_django_celery_beats():
    """There is one page of periodic tasks."""
    assert type(admin.site._registry[PeriodicTask]).__module__ == "django_tasks.admin.periodic"
