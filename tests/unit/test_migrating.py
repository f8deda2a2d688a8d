"""``manage.py tasks migrate_from_celery``: what it finds in a project, what it says of it, and that what it says is true."""

import io
import json
import re
from importlib import import_module

import pytest
from celery.bin import beat as celery_beat
from celery.bin import celery as celery_program
from celery.bin import events as celery_events
from celery.bin import purge as celery_purge
from celery.bin import worker as celery_worker
from django.core.management import CommandError, call_command, load_command_class

from django_tasks import app
from django_tasks.application import COMMANDS_TO_COME
from django_tasks.cli import migrating as migrating_cli
from django_tasks.conf_options import OPTIONS
from django_tasks.operations.migrating import Severity, check_project
from django_tasks.operations.migrating.appuses import _ACCEPTED, _MISSING
from django_tasks.operations.migrating.commandlines import translate
from django_tasks.operations.migrating.commandnames import COMMANDS, GLOBAL
from django_tasks.operations.migrating.names import ADVICE, COMPANIONS, MOVED, advice, counterpart
from django_tasks.operations.migrating.taskcode import _NOT_OURS
from django_tasks.tasks import Task
from tests.celeryproject import FILES

CHANGE, LOOK, COUNTS = Severity.CHANGE, Severity.LOOK, Severity.COUNTS


def write(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The sample project, and we stand in it."""
    monkeypatch.chdir(write(tmp_path, FILES))
    return tmp_path


def run(*arguments):
    """Run the command; return its exit status and what it printed."""
    out = io.StringIO()
    try:
        call_command("tasks", "migrate_from_celery", *arguments, stdout=out)
    except SystemExit as stop:
        return stop.code, out.getvalue()
    return 0, out.getvalue()


def findings(folder, files):
    """What is found in these files: (line, severity, what, instead)."""
    report = check_project([write(folder, files)])
    return [(found.line, found.severity, found.what, found.instead) for found in report.findings]


def said(folder, text, name="shop/some.py"):
    """What is found in one file: (severity, instead)."""
    return [(severity, instead) for _, severity, _, instead in findings(folder, {name: text})]


EXPECTED = [
    ("Procfile", 2, CHANGE, "python manage.py runworker -Q default,mail -c 4 -l info; --without-gossip: not needed"),
    ("Procfile", 3, CHANGE, "python manage.py runbeat; -S django: not needed"),
    ("README.md", 3, LOOK, "python manage.py runworker"),
    ("compose/start", 3, CHANGE, "python manage.py runworker -l INFO"),
    ("deploy/supervisor.conf", 2, CHANGE, "python manage.py runbeat -l info --max-interval 5"),
    ("deploy/worker.service", 2, CHANGE, "python manage.py runworker --pidfile /run/celery.pid --max-tasks-per-child 100; --uid www:"),
    ("docker-compose.yml", 3, CHANGE, "runworker --loglevel CRITICAL --concurrency 8 -P threads"),
    ("docker-compose.yml", 6, CHANGE, "python manage.py runworker -n mail@%h"),
    ("docker-compose.yml", 14, CHANGE, "python manage.py runworker -l INFO"),
    ("docker-compose.yml", 18, CHANGE, "tasks status"),
    ("proj/__init__.py", 1, CHANGE, "remove the line"),
    ("proj/celery.py", 3, CHANGE, "from django_tasks import signals"),
    ("proj/celery.py", 3, CHANGE, "`from django_tasks import app`"),
    ("proj/celery.py", 4, CHANGE, "no counterpart"),
    ("proj/celery.py", 8, CHANGE, "from django_tasks import app; or remove the module"),
    ("proj/celery.py", 9, LOOK, "does nothing here"),
    ("proj/celery.py", 10, LOOK, "does nothing here"),
    ("proj/celery.py", 11, CHANGE, "move it to the settings, as CELERY_TASK_TRACK_STARTED"),
    ("proj/celery.py", 12, CHANGE, "move it to the settings, as CELERY_TASK_ROUTES"),
    ("proj/celery.py", 12, CHANGE, "raises an error here"),
    ("proj/celery.py", 19, CHANGE, "bootsteps are parts of Celery's worker"),
    ("proj/celery.py", 22, COUNTS, "@shared_task is the same"),
    ("proj/celery.py", 29, CHANGE, "comes with a later release"),
    ("proj/settings.py", 1, CHANGE, '"django_tasks" behind "django_celery_beat"'),
    ("proj/settings.py", 1, LOOK, "the default queue is named default here"),
    ("proj/settings.py", 3, LOOK, "not needed: results are rows"),
    ("proj/settings.py", 4, COUNTS, "stays"),
    ("proj/settings.py", 7, COUNTS, "Where messages wait"),
    ("proj/settings.py", 8, COUNTS, "the same as db://default"),
    ("proj/settings.py", 9, COUNTS, "our default"),
    ("proj/settings.py", 10, LOOK, "plain data"),
    ("proj/settings.py", 11, LOOK, "plain data"),
    ("proj/settings.py", 12, LOOK, "no effect"),
    ("proj/settings.py", 13, LOOK, "visibility_timeout need not outlast tasks"),
    ("proj/settings.py", 14, COUNTS, "monitors"),
    ("proj/settings.py", 15, CHANGE, "'gevent' is not possible here: 'prefork'"),
    ("proj/settings.py", 16, CHANGE, "CELERY_WORKER_CONCURRENCY"),
    ("proj/settings.py", 17, CHANGE, "of type str"),
    ("proj/settings.py", 18, LOOK, "counts for nothing here"),
    ("proj/settings.py", 19, LOOK, "no effect"),
    ("proj/settings.py", 20, LOOK, '"django_tasks": our loggers'),
    ("pytest.ini", 2, CHANGE, "our pytest plugin"),
    ("requirements/base.txt", 2, LOOK, "django-tasks-engine"),
    ("requirements/base.txt", 4, LOOK, "not needed"),
    ("requirements/base.txt", 5, LOOK, "events"),
    ("shop/broken.py", 1, CHANGE, "from django_tasks import group"),
    ("shop/broken.py", 2, LOOK, "only its imports were looked at"),
    ("shop/migrations/0002_tasks.py", 1, CHANGE, "from django_tasks import shared_task"),
    ("shop/tasks.py", 1, CHANGE, "import django_tasks"),
    ("shop/tasks.py", 2, CHANGE, "from django_tasks import chain, shared_task"),
    ("shop/tasks.py", 5, CHANGE, "uuid.uuid4"),
    ("shop/tasks.py", 7, CHANGE, "from django_tasks import app as capp"),
    (
        "shop/tasks.py",
        8,
        CHANGE,
        "from django_tasks.exceptions import MaxRetriesExceededError, SoftTimeLimitExceeded, TaskError as CeleryError",
    ),
    ("shop/tasks.py", 9, CHANGE, "from django_tasks.result import AsyncResult"),
    ("shop/tasks.py", 10, CHANGE, "from django_tasks.schedules import crontab"),
    ("shop/tasks.py", 11, CHANGE, "from django_tasks.log import get_task_logger"),
    ("shop/tasks.py", 12, CHANGE, "no counterpart is known"),
    ("shop/tasks.py", 13, CHANGE, "from django_tasks.models import TaskResult"),
    ("shop/tasks.py", 15, CHANGE, "from django_tasks import app as celery_app"),
    ("shop/tasks.py", 16, CHANGE, "from django_tasks import app"),
    ("shop/tasks.py", 21, CHANGE, "django_tasks.Task"),
    ("shop/tasks.py", 21, COUNTS, "works with the Task of django_tasks"),
    ("shop/tasks.py", 22, LOOK, "not needed"),
    ("shop/tasks.py", 24, CHANGE, "never called here"),
    ("shop/tasks.py", 31, CHANGE, "django_tasks.shared_task"),
    ("shop/tasks.py", 35, LOOK, "plain data"),
    ("shop/tasks.py", 39, COUNTS, "@shared_task is the same"),
    ("shop/tasks.py", 44, CHANGE, "from django_tasks import states"),
    ("shop/tasks.py", 45, CHANGE, "comes with a later release"),
    ("shop/tasks.py", 45, CHANGE, "django_tasks.states.SUCCESS"),
    ("shop/tests.py", 3, CHANGE, "from django_tasks.testing import start_worker"),
    ("shop/tests.py", 6, CHANGE, "our pytest plugin"),
    ("shop/tests.py", 9, COUNTS, "at once"),
    ("shop/tests.py", 10, LOOK, "a path into Celery"),
]


def test_every_place_of_a_project_is_found_and_nothing_else(project):
    """Each finding, with line, severity and what to write; virtualenvs, and migrations without Celery, are passed over."""
    found = check_project([project]).findings
    places = sorted((one.path, one.line, one.severity.value) for one in found)
    assert places == sorted((path, line, severity.value) for path, line, severity, _ in EXPECTED)
    for path, line, severity, instead in EXPECTED:
        assert any((one.path, one.line, one.severity) == (path, line, severity) and instead in one.instead for one in found), (path, line)


def test_the_command_lists_the_findings_and_fails_while_something_must_change(project):
    """Exit status 1; each line says place, severity, what stands there, and what to write."""
    status, text = run("--check", ".")
    assert status == 1
    assert (
        "  shop/tasks.py:9: must change: from celery.result import AsyncResult\n      from django_tasks.result import AsyncResult\n" in text
    )
    assert re.search(r"\d+ files read: \d+ must change, \d+ look at it, \d+ counts as it is", text)


def test_a_password_is_not_told(project):
    """Reports are sent around: no login of an address is shown."""
    (project / "start.sh").write_text("celery -A p -b redis://:secret@h worker\n")
    (project / "shop/start.py").write_text("x = 'celery -A p -b redis://me:secret@h worker'\n")
    status, text = run("--json", ".")
    assert status == 1
    assert "start.py" in text
    assert "CELERY_BROKER_URL" in text
    assert "secret" not in text


def test_json_is_one_document(project):
    """--json prints a list of objects with the five fields."""
    _, text = run("--check", "--json", "shop", "Procfile")
    found = json.loads(text)
    assert {tuple(one) for one in found} == {("path", "line", "what", "instead", "severity")}
    assert {one["path"] for one in found} == {
        "Procfile",
        "shop/tasks.py",
        "shop/tests.py",
        "shop/broken.py",
        "shop/migrations/0002_tasks.py",
    }


def test_a_project_that_has_moved_is_fine(tmp_path):
    """Exit status 0 when nothing must change; the project's celery.py may stay as a place that hands on our app."""
    moved = {
        "proj/__init__.py": "from .celery import app as celery_app\n",
        "proj/celery.py": "from django_tasks import app\n\napp.autodiscover_tasks()\n",
        "proj/settings.py": "INSTALLED_APPS = ['django_celery_beat', 'django_tasks']\nCELERY_BROKER_URL = 'redis://'\n",
        "shop/tasks.py": "from django_tasks import shared_task\nfrom proj import celery_app\n\n\n@celery_app.task\ndef one(): ...\n",
    }
    status, text = run(str(write(tmp_path, moved)))
    assert status == 0
    assert "0 must change" in text


def test_a_path_that_is_not_there_is_wrong_usage(tmp_path):
    """Exit status 2, and the path is named."""
    with pytest.raises(CommandError, match=r"there is no .*nowhere") as caught:
        call_command("tasks", "migrate_from_celery", str(tmp_path / "nowhere"))
    assert caught.value.returncode == 2


def test_nothing_of_the_project_runs(tmp_path):
    """Its modules are read, not imported: neither settings nor tasks leave a trace."""
    trace = tmp_path / "trace"
    code = f"import celery\nopen({str(trace)!r}, 'w')\nraise SystemExit(9)\n"
    found = findings(tmp_path / "project", {"proj/settings.py": code, "proj/celery.py": code, "conftest.py": code})
    assert len(found) == 3
    assert not trace.exists()


def test_files_that_can_not_be_read_as_they_should_are_findings(tmp_path):
    """Broken syntax, zero bytes, wrong encodings and texts in other encodings end nothing."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/zero.py").write_bytes(b"import celery\0")
    (tmp_path / "shop/coding.py").write_bytes(b"# coding: no-such-coding\nimport celery\n")
    (tmp_path / "shop/bytes.py").write_bytes(b"import celery\nx = '\xff'\n")
    (tmp_path / "shop/latin.py").write_bytes("# coding: latin-1\nfrom celery import group  # ä\n".encode("latin-1"))
    (tmp_path / "shop/deep.py").write_text("import celery\nx = " + "(" * 300 + ")" * 300)
    (tmp_path / "shop/other.py").write_text("def (:\n")
    (tmp_path / "latin.sh").write_bytes(b"# \xe4\ncelery -A p worker\n")
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")
    report = check_project([tmp_path])
    problems = {one.path.rpartition("/")[2] for one in report.findings if "can't parse it" in one.what}
    assert problems == {"zero.py", "deep.py"}
    read = {one.path.rpartition("/")[2] for one in report.findings if one.severity is CHANGE}
    assert read == {"coding.py", "bytes.py", "deep.py", "latin.py", "latin.sh"}


def test_the_patch_changes_import_lines_and_leaves_the_rest(project):
    """--diff prints a patch; what has no counterpart stays an import of Celery's, comments and indentation stay."""
    status, patch = run("--diff", "shop/tasks.py", "proj/celery.py")
    assert status == 1
    added = [line[1:] for line in patch.splitlines() if line.startswith("+") and not line.startswith("+++")]
    assert "from django_tasks import app as capp  # the app" in added
    assert "from django_tasks.exceptions import MaxRetriesExceededError, SoftTimeLimitExceeded, TaskError as CeleryError" in added
    assert {"from django_tasks import chain, shared_task", "from celery import uuid"} <= set(added)
    assert not any("TYPE_CHECKING" in line for line in added)
    assert (project / "shop/tasks.py").read_text() == FILES["shop/tasks.py"]


def test_by_default_the_project_is_read(project, settings, monkeypatch):
    """Around BASE_DIR: the current folder if it is the top of the project, else BASE_DIR."""
    settings.BASE_DIR = project / "proj"
    assert migrating_cli.project_folders() == [project]
    monkeypatch.chdir("/")
    assert migrating_cli.project_folders()[0] == project / "proj"
    monkeypatch.chdir(project)
    status, text = run()
    assert status == 1
    assert "shop/tasks.py:2" in text


# ---- other ways of writing things


def test_settings_without_a_prefix_are_told_their_names(tmp_path):
    """A Celery app that reads bare names, or a module of its own, or another prefix: none of it counts here."""
    files = {
        "proj/celery.py": "from celery import Celery\na = Celery()\na.config_from_object('django.conf:settings')\n",
        "proj/settings.py": "BROKER_URL = 'redis://'\nbroker_url = 1\nTIMEOUT = 3\nMIDDLEWARE = []\nDATABASE_URL = 'x'\n",
        "other/celery.py": "from celery import Celery\na = Celery()\na.config_from_object('other.celeryconfig')\n",
        "other/celeryconfig.py": "task_acks_late = True\n",
        "third/celery.py": "from celery import Celery\na = Celery()\na.config_from_object('django.conf:settings', namespace='JOBS')\n",
        "third/settings.py": "JOBS_TASK_TIME_LIMIT = 3\nJOBS_FLAVOUR = 1\n",
    }
    texts = {what: (severity, instead) for _, severity, what, instead in findings(tmp_path, files)}
    assert texts["BROKER_URL = …"] == (CHANGE, 'DJANGO_TASKS["BROKER_URL"]: Celery read it without a prefix, which counts for nothing here')
    assert 'DJANGO_TASKS["TASK_ACKS_LATE"]' in texts["task_acks_late = True"][1]
    assert "CELERY_TASK_TIME_LIMIT" in texts["JOBS_TASK_TIME_LIMIT = 3"][1]
    assert not any(name in what for what in texts for name in ("TIMEOUT", "FLAVOUR", "MIDDLEWARE", "DATABASE_URL"))


def test_settings_in_classes_and_tests_are_found(tmp_path):
    """django-configurations keeps settings in classes; tests set them by a fixture or a context."""
    text = """\
class Dev(Base):
    CELERY_TASK_ALWAYS_EAGER: bool = True
def test_it(settings):
    settings.CELERY_TASK_ALWAYS_EAGER = True
    with self.settings(CELERY_TASK_PROTOCOL=1): ...
    other.CELERY_NOTHING = 1
"""
    assert [(line, severity) for line, severity, _, _ in findings(tmp_path, {"shop/some.py": text})] == [
        (2, COUNTS),
        (4, COUNTS),
        (5, CHANGE),
    ]


def test_a_constant_of_a_module_of_tasks_is_no_setting(tmp_path):
    """CELERY_RETRIES beside a task is the project's own; among settings it is a setting that counts for nothing."""
    assert said(tmp_path, "CELERY_RETRIES = 5\n") == []
    assert [severity for severity, _ in said(tmp_path, "CELERY_RETRIES = 5\n", "proj/settings.py")] == [LOOK]
    assert [severity for severity, _ in said(tmp_path / "second", "DEBUG = True\nCELERY_RETRIES = 5\n", "proj/local.py")] == [LOOK]


@pytest.mark.parametrize(
    "text",
    [
        "try: ...\nexcept KeyError, os.error: ...\nfrom celery.result import AsyncResult\n",
        "def first[T: (int, str)](values: list[T]): ...\nclass Box[T]: ...\nfrom celery.result import AsyncResult\n",
        "type Pair[T] = tuple[T, T]\ntype Name = str\nfrom celery.result import AsyncResult\n",
    ],
)
def test_a_project_for_a_newer_python_is_read(tmp_path, text):
    """What an older Python can't parse is read all the same, line by line."""
    assert [(line, severity) for line, severity, _, _ in findings(tmp_path, {"shop/some.py": text})] == [(3, CHANGE)]


def test_of_a_file_that_can_not_be_parsed_the_imports_are_read(tmp_path):
    """In functions, too, and over several lines; nothing of it is in the patch, since where things stand is not certain."""
    text = "{% if x %}\nfrom celery import (\n    chain,\n    group,\n)\n{% endif %}\ndef f():\n    import celery.result  # late\n"
    report = check_project([write(tmp_path, {"shop/some.py": text})])
    assert sorted((one.line, one.instead) for one in report.findings if one.severity is CHANGE) == [
        (2, "from django_tasks import chain, group"),
        (8, "import django_tasks.result"),
    ]
    assert not any(one.edit for one in report.findings)


@pytest.mark.parametrize(
    "function",
    [
        "def f(app): app.pk",
        "def f(*app): app.pk",
        "f = lambda app: app.pk",
        "def f():\n    app = App()\n    app.pk",
        "def f():\n    for app in apps: app.pk",
        "def f():\n    from other import app\n    app.pk",
        "def f():\n    try: ...\n    except E as app: app.pk",
    ],
)
def test_a_variable_that_is_called_app_is_no_celery_app(tmp_path, function):
    """A parameter or variable of a function hides the module's app there, and there alone."""
    files = {"proj/celery.py": "from celery import Celery\napp = Celery()\n"}
    files["shop/some.py"] = f"from proj.celery import app\n{function}\n\napp.amqp.queues\n"
    last = files["shop/some.py"].count("\n")
    found = [(one.line, one.what) for one in check_project([write(tmp_path, files)]).findings if one.path.endswith("some.py")]
    assert found[1:] == [(last, "app.amqp.queues")]


def test_an_app_that_a_function_makes_or_imports_is_one(tmp_path):
    """Factories and imports inside functions bind the app itself."""
    files = {"proj/celery.py": "from celery import Celery\ndef make():\n    app = Celery()\n    app.steps\n    return app\n"}
    files["shop/some.py"] = "def f():\n    from proj.celery import app\n    app.steps\n"
    assert [(line, what) for line, _, what, _ in findings(tmp_path, files) if what == "app.steps"] == [(4, "app.steps"), (3, "app.steps")]


@pytest.mark.parametrize(
    ("call", "severity", "instead"),
    [
        ("autodiscover_tasks()", LOOK, "the tasks module of every installed app"),
        ("autodiscover_tasks(lambda: settings.INSTALLED_APPS)", LOOK, "the tasks module of every installed app"),
        ("autodiscover_tasks(None, 'tasks')", LOOK, "the tasks module of every installed app"),
        ("autodiscover_tasks(['a.b', 'c'], related_name='jobs')", CHANGE, "list them in CELERY_IMPORTS: a.b.jobs, c.jobs"),
        ("autodiscover_tasks(('a',))", CHANGE, "list them in CELERY_IMPORTS: a.tasks"),
        ("autodiscover_tasks(related_name='jobs')", CHANGE, "list the modules named jobs in CELERY_IMPORTS"),
        ("autodiscover_tasks(lambda: plugins())", CHANGE, "list the modules that it finds in CELERY_IMPORTS"),
    ],
)
def test_modules_that_only_autodiscover_tasks_finds_are_told(tmp_path, call, severity, instead):
    """Without them a worker would not know their tasks."""
    [(told, answer)] = said(tmp_path, f"from django_tasks import app\napp.{call}\n")
    assert told is severity
    assert instead in answer


def test_a_class_for_all_tasks_of_an_app_is_told(tmp_path):
    """Its effect would go with the app, silently."""
    found = said(tmp_path, "from celery import Celery\napp = Celery('proj', task_cls='proj.tasks:Own', broker='redis://')\n")
    assert "BROKER_URL. task_cls: `app.Task = ThatClass`" in found[1][1]


def test_classes_that_derive_from_a_class_of_tasks_are_classes_of_tasks(tmp_path):
    """However far away in the module Task is."""
    text = "from django_tasks import Task\nclass A(Task): ...\nclass B(A):\n    Request = 1\n"
    assert [(line, severity) for line, severity, _, _ in findings(tmp_path, {"shop/some.py": text})] == [
        (2, COUNTS),
        (3, COUNTS),
        (4, CHANGE),
    ]


def test_a_docstring_and_the_name_of_a_service_are_no_commands(tmp_path):
    """Only a text that something could run is."""
    assert said(tmp_path, '"""celery status"""\ndef f():\n    "celery -A p worker"\n') == []
    assert said(tmp_path, "The service `celerybeat` runs.\n\n- `celerybeat`\n", "README.md") == []


def test_installed_apps_may_be_a_property(tmp_path):
    """Settings in classes compute the list."""
    text = "class Base:\n    @property\n    def INSTALLED_APPS(self):\n        apps = ['django_celery_beat']\n        return apps\n"
    assert (3, CHANGE, "INSTALLED_APPS without django_tasks") in [one[:3] for one in findings(tmp_path, {"proj/settings.py": text})]


@pytest.mark.parametrize(
    ("name", "text", "severity"),
    [
        ("proj/queues.py", "CELERY_TASK_QUEUES = [Queue('celery'), Queue('mail')]\n", CHANGE),
        ("Procfile", "w: celery -A proj worker -Q mail,celery -c 2\n", CHANGE),
        ("compose.yml", '  command: ["celery", "-A", "proj", "worker", "--queues", "celery"]\n', CHANGE),
        ("Procfile", "w: celery -A proj worker -Q mail,celery_slow\n", LOOK),
        ("proj/queues.py", "CELERY_TASK_QUEUES = [Queue('mail')]\n", LOOK),
    ],
)
def test_a_default_queue_that_nobody_would_consume_must_be_named(tmp_path, name, text, severity):
    """Ours is called default: where workers are told to consume celery, what is sent would wait for ever."""
    settings = "INSTALLED_APPS = ['django_celery_beat', 'django_tasks']\nCELERY_BROKER_URL = 'redis://'\n"
    found = findings(tmp_path, {"proj/settings.py": settings, name: text})
    assert [one[1] for one in found if one[2] == "TASK_DEFAULT_QUEUE is set nowhere"] == [severity]


def test_a_logger_is_told_once(tmp_path):
    """A key of LOGGING is a logger, and no path into Celery, too."""
    assert said(tmp_path, "LOGGING = {'loggers': {'celery.worker.consumer.gossip': {'level': 'ERROR'}}}\n", "proj/settings.py") == [
        (LOOK, '"django_tasks": our loggers lie below it')
    ]


def test_packages_that_watch_celery_are_told_by_their_extra(tmp_path):
    """sentry-sdk[celery] and the like don't see our workers."""
    text = "sentry-sdk[django,celery]==2\ndjango-structlog[celery]\ncelery-types\ncelerylike[redis]\n"
    assert [line for line, _, _, _ in findings(tmp_path, {"requirements.txt": text})] == [1, 2, 3]


def test_what_is_to_be_said_of_several_lines_is_said_once(tmp_path):
    """People read one entry a file with all its lines; --json keeps an object a line."""
    write(tmp_path, {"shop/some.py": "import celery\ncelery.uuid()\ncelery.uuid()\nx = celery.uuid(); celery.uuid()\n"})
    _, text = run(str(tmp_path))
    assert ":2: must change: celery.uuid (and in lines 3, 4)\n" in text
    assert text.count("celery.uuid") == 1
    _, document = run("--json", str(tmp_path))
    assert [one["line"] for one in json.loads(document)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("text", "severity", "instead"),
    [
        ("CELERY_WORKER_HIJACK_ROOT_LOGGER = False", LOOK, "no effect"),
        ("CELERY_TASK_SERIALIZER = 'signed-pickle'", LOOK, "registered with kombu"),
        ("CELERY_BROKER_TRANSPORT_OPTIONS = {'visibility_timeout': HOUR, **more}", LOOK, "visibility_timeout"),
        ("CELERY_TASK_TIME_LIMIT = timedelta(hours=1)", COUNTS, "Seconds"),
        ("CELERY_WORKER_POOL = env('POOL')", COUNTS, "How a worker runs tasks"),
    ],
)
def test_a_setting_is_judged_by_its_value_where_that_can_be_read(tmp_path, text, severity, instead):
    """Values that are computed are left to the system checks."""
    [(told, answer)] = said(tmp_path, text, "proj/settings.py")
    assert told is severity
    assert instead in answer


@pytest.mark.parametrize(
    ("text", "severity", "instead"),
    [
        ("import celery.signals as sig", CHANGE, "from django_tasks import signals as sig"),
        ("import celery as c", CHANGE, "import django_tasks as c"),
        ("from celery.exceptions import *", CHANGE, "from django_tasks.exceptions import *"),
        ("from celery.worker.request import Request", CHANGE, "no counterpart"),
        ("from celery.backends.redis import RedisBackend", CHANGE, "RESULT_BACKEND"),
        ("from celery.utils.functional import chunks", LOOK, "goes on working"),
        ("from celery.schedules import crontab_parser", LOOK, "goes on working"),
        ("from celery.signals import eventlet_pool_started", CHANGE, "no such signal"),
        ("from celery.exceptions import SecurityError", CHANGE, "not signed"),
        ("from celery.task import periodic_task", CHANGE, "BEAT_SCHEDULE"),
        ("from celery.elsewhere import AsyncResutl", CHANGE, "the nearest name is django_tasks.AsyncResult"),
        ("from kombu import Queue", COUNTS, "kombu stays"),
        ("from billiard.exceptions import SoftTimeLimitExceeded", CHANGE, "from django_tasks.exceptions import SoftTimeLimitExceeded"),
        ("from billiard import Process", LOOK, "multiprocessing"),
        ("from sentry_sdk.integrations.celery import CeleryIntegration", CHANGE, "task_failure"),
        ("from redbeat import RedBeatSchedulerEntry", CHANGE, "BEAT_SCHEDULE"),
        ("from django_celery_beat.models import PeriodicTask", COUNTS, "stays"),
        ("command = 'celery -A proj worker -c 2'", LOOK, "python manage.py runworker -c 2"),
    ],
)
def test_an_import_is_never_passed_over(tmp_path, text, severity, instead):
    """Every import of Celery's, and of the packages around it, has an answer."""
    [(told, answer)] = said(tmp_path, text)
    assert told is severity
    assert instead in answer


@pytest.mark.parametrize(
    "text", ["from .celery import app", "import celerity", "x = 'celery'", "x = 'celery.log'", "from sentry_sdk import init", "app.pool()"]
)
def test_what_is_not_celerys_is_left_alone(tmp_path, text):
    """Modules of the project, other packages, and names that only look alike."""
    assert said(tmp_path, text) == []


def test_an_app_is_followed_through_the_modules_that_hand_it_on(tmp_path):
    """Made in one module, imported into a second, from there into a third; a class of the project's own is an app, too."""
    files = {
        "src/proj/jobs/app.py": "import celery\nclass Mine(celery.Celery): ...\nqueue = Mine('x')\n",
        "src/proj/jobs/__init__.py": "from .app import queue as jobs\n",
        "src/proj/shop/api.py": "from ..jobs import jobs\n",
        "src/proj/shop/tasks.py": "from proj.shop.api import jobs\n@jobs.task\ndef one(): ...\njobs.amqp.queues\n",
    }
    found = {(what, severity) for _, severity, what, _ in findings(tmp_path, files)}
    assert ("class Mine(Celery)", CHANGE) in found
    assert ("queue = Celery(…)", CHANGE) in found
    assert ("from proj.shop.api import jobs: the project's Celery app", CHANGE) in found
    assert ("@jobs.task", COUNTS) in found
    assert ("jobs.amqp.queues", CHANGE) in found


# ---- command lines


@pytest.mark.parametrize(
    ("line", "ours"),
    [
        ("celery worker -A proj -c4 --autoscale=10,3 && echo done", "python manage.py runworker -c 4 --autoscale 10,3"),
        ("exec /venv/bin/celery -A proj worker --discard -B", "python manage.py runworker --purge -B"),
        ('["celery", "-A", "proj", "worker", "-l", "info"]', "python manage.py runworker -l info"),
        ('/bin/sh -c "celery -A proj worker -n w1@%h"', "python manage.py runworker -n w1@%h"),
        ("python -m celery -A proj beat -s /tmp/x", "python manage.py runbeat; -s /tmp/x: not needed"),
        ("celery -A proj purge -f -Q a,b", "python manage.py tasks purge -f -Q a,b"),
        ("celery -A proj call shop.add -a '[1, 2]'", "python manage.py tasks call shop.add -a '[1, 2]'"),
        ("celery -A proj status", "python manage.py tasks status"),
        ("celery -A proj worker -I a.b", "python manage.py runworker; -I a.b: set INCLUDE"),
        ("celery -A proj -b redis://:pw@h worker", "python manage.py runworker; -b …: set BROKER_URL"),
        ("celery -A proj worker --frobnicate", "python manage.py runworker; --frobnicate: not known"),
        ("${CELERY_BIN} -A $APP multi start $NODES", "no counterpart: one service for each worker"),
        ("celery -A proj flower", "Flower stays as it is"),
        ("celery -A proj events --dump -l info", "python manage.py tasks events --dump; -l info: not needed"),
        ("celeryd -c 3", "python manage.py runworker -c 3"),
        ("celery -A p worker -P ${POOL}", "python manage.py runworker -P ${POOL}; ${POOL} must be"),
        ("celery -A proj worker -c '", "python manage.py runworker"),
    ],
)
def test_a_command_line_is_translated(line, ours):
    """Options are kept by our names; what is left out is named, with the reason."""
    [found] = translate(line)
    assert found.instead.startswith(ours)


@pytest.mark.parametrize(
    ("text", "line", "ours"),
    [
        ('"command": "uv run celery --app p worker -l DEBUG",', 1, "python manage.py runworker -l DEBUG"),
        ("Run `celery -A p worker -c 2` then", 1, "python manage.py runworker -c 2 then"),
        ("a:\n  image: x\n  command: [\n    'celery', '-A',\n    'p', 'worker'\n  ]", 4, "python manage.py runworker"),
        ("Environment=CELERY_BIN=/x/celery\nExecStart=/bin/sh -c '${CELERY_BIN} -A p beat'", 2, "python manage.py runbeat"),
        ("container_name: celery worker -A", 0, ""),
        ("image: proj/celery:latest", 0, ""),
    ],
)
def test_a_command_is_found_in_the_files_of_other_programs(tmp_path, text, line, ours):
    """As a value of JSON, in a sentence, over several lines, behind a variable; titles and images are none."""
    found = [(number, instead) for number, _, _, instead in findings(tmp_path, {"some.yml": text})]
    assert [number for number, _ in found] == ([line] if line else [])
    assert all(instead.startswith(ours) for _, instead in found)


@pytest.mark.parametrize(
    "line",
    [
        "The celery worker that runs",
        "celery is a vegetable",
        "docker compose up -d celerybeat celeryworker",
        "pip install celery",
        "proj/celery.py",
        "celery",
    ],
)
def test_a_sentence_is_no_command(line):
    """Texts that only speak of Celery are left alone."""
    assert list(translate(line)) == []


# ---- what is said is true


def parser_options(name, *path):
    """The spellings that a command of ours takes."""
    if name.startswith("tasks "):
        commands = load_command_class("django_tasks", "tasks").create_parser("manage.py", "tasks")
        [choices] = [action.choices for action in commands._actions if hasattr(action, "add_parser")]
        return set(choices[name.split()[1]]._option_string_actions)
    return set(load_command_class("django_tasks", name).create_parser("manage.py", name)._option_string_actions)


def test_every_option_that_is_kept_is_an_option_of_ours():
    """What a command line is translated into is accepted by the command."""
    translated = {name: command for name, command in COMMANDS.items() if command.instead and command.instead != "shell"}
    assert {name: set(command.kept.values()) - parser_options(command.instead) for name, command in translated.items()} == {
        name: set() for name in translated
    }


@pytest.mark.parametrize(
    ("name", "theirs"),
    [("worker", celery_worker.worker), ("beat", celery_beat.beat), ("purge", celery_purge.purge), ("events", celery_events.events)],
)
def test_every_option_of_celerys_has_an_answer(name, theirs):
    """No option of the installed Celery's command is unknown."""
    spellings = {spelling for option in theirs.params for spelling in (*option.opts, *option.secondary_opts) if spelling.startswith("-")}
    assert spellings - {*COMMANDS[name].kept, *COMMANDS[name].dropped, *GLOBAL} - {"--help"} == set()
    with_value = {one for option in theirs.params if not getattr(option, "is_flag", False) for one in option.opts if one.startswith("-")}
    assert with_value <= COMMANDS[name].takes
    assert spellings - with_value - set(COMMANDS[name].takes) == spellings - with_value


def test_every_command_of_celerys_has_an_answer():
    """No command of the installed Celery is unknown."""
    assert set(celery_program.celery.commands) - set(COMMANDS) == set()


def test_every_counterpart_is_there():
    """What an import is replaced by can be imported."""
    for target in MOVED.values():
        module, _, name = target.partition(":")
        try:
            assert hasattr(import_module(module), name), target
        except AssertionError:
            import_module(f"{module}.{name}")


NAMED = re.compile(r"\bdjango_tasks(?:\.\w+)+")


def test_every_name_in_an_advice_is_there():
    """Dotted names of ours that an advice mentions exist; so do the settings."""
    texts = [text for _, text in (*ADVICE.values(), *COMPANIONS.values())] + [*_MISSING.values(), *_NOT_OURS.values(), *_ACCEPTED.values()]
    for named in {name for text in texts for name in NAMED.findall(text)} - {"django_tasks.result_backends"}:
        module, _, name = named.rpartition(".")
        try:
            import_module(named)
        except ModuleNotFoundError:
            assert hasattr(import_module(module), name), named
    settings = {name for text in texts for name in re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b|\bIMPORTS\b|\bMIDDLEWARE\b", text)}
    assert settings - set(OPTIONS) - {"DJANGO_TASKS", "TIME_ZONE"} == set()


@pytest.mark.parametrize("module", ["celery", "celery.exceptions", "celery.signals", "celery.states", "celery.result", "celery.canvas"])
def test_every_public_name_of_celerys_has_an_answer(module):
    """Each name has a counterpart that can be imported, or an advice of its own."""
    inside = {"execute", "local", "log", "maybe_patch_concurrency", "messaging", "registry", "version_info_t"}
    for name in (name for name in set(import_module(module).__all__) - inside if not name.startswith("_")):
        target = counterpart(module, name)
        if target is None:
            assert "no counterpart is known" not in advice(module, name).text, name
        else:
            home = import_module(target[0])
            assert hasattr(home, target[1]) or import_module(f"{target[0]}.{target[1]}"), name


def test_what_is_said_to_be_missing_is_missing():
    """When one of these comes, the table has to lose its line."""
    assert {name for name in _MISSING if hasattr(app, name)} == set()
    assert {name for name in _NOT_OURS if hasattr(Task, name)} == set()
    assert {name for name in _ACCEPTED if not hasattr(app, name)} == set()
    for name in COMMANDS_TO_COME:
        with pytest.raises(NotImplementedError):
            getattr(app.control, name)


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if "comes with a later release" in command.note])
def test_what_is_said_to_come_later_is_not_there_yet(name):
    """When one of these commands comes, the table has to lose its line."""
    with pytest.raises(CommandError, match="later release"):
        call_command("tasks", name)
