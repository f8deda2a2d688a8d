"""The same use of Celery, written in many ways: settings, apps, tasks, imports."""

import json

import pytest
from django.core.management import load_command_class

from django_tasks.operations.migrating import check_project
from tests.unit.migrating.projects import CHANGE, COUNTS, LOOK, findings, run, said, write


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
    write(tmp_path, {"shop/some.py": "import celery\ncelery.bugreport()\ncelery.bugreport()\nx = celery.bugreport(); celery.bugreport()\n"})
    _, text = run(str(tmp_path))
    assert ":2: must change: celery.bugreport (and in lines 3, 4)\n" in text
    assert text.count("celery.bugreport") == 1
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
        ("from celery.schedules import CRON_INVALID_TYPE", LOOK, "goes on working"),
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


def test_options_that_are_refused_are_found(tmp_path):
    """A decorator with an option that our tasks don't take, and a call with a property of AMQP, must change; others are left alone."""
    text = """\
from celery import shared_task as task
from proj.celery import app
@task(Request=Mine, max_retry=3, flavour="mild")
def first(): ...
@app.task(backend="redis://", base=Mine, max_retry=3, acks_late=True)
def second(): ...
@app.task(backend=None)
def third():
    first.apply_async((), correlation_id="x", headers={})
    first.apply_async((), expiration=3, stamped_headers=["expiration"])
    pool.apply_async(first, kwds={}, callback=print)
"""
    ours = [one for one in findings(tmp_path, {"shop/some.py": text}) if one[2].startswith(("@", "apply_async"))]
    assert [(line, severity, what) for line, severity, what, _ in ours] == [
        (3, CHANGE, "@task(Request=…)"),
        (3, CHANGE, "@task(max_retry=…)"),
        (5, CHANGE, "@app.task(backend=…)"),
        (9, CHANGE, "apply_async(correlation_id=…)"),
    ]
    assert ours[1][3] == "raises TypeError here: there is no option 'max_retry'; did you mean 'max_retries'?"


@pytest.mark.parametrize(
    ("making", "app"),
    [
        ("from celery import Celery\ndef make():\n    made = Celery()\n    return made\napp = make()\n", "app"),
        ("from celery import Celery\ndef make():\n    return Celery()\napp = make()\n", "app"),
        ("import celery\napp: celery.Celery = celery.Celery[Any]('proj')\n", "app"),
        ("from celery import Celery\nclass Own(Celery[Any]): ...\nqueue = Own()\n", "queue"),
    ],
)
def test_an_app_is_an_app_however_it_is_made(tmp_path, making, app):
    """By a function of the project, and as celery-types writes it."""
    files = {"proj/celery.py": making, "shop/some.py": f"from proj.celery import {app}\n{app}.amqp.queues\n"}
    assert (2, CHANGE, f"{app}.amqp.queues") in [one[:3] for one in findings(tmp_path, files)]


def test_a_moved_project_has_nothing_to_change_and_its_app_is_followed(tmp_path):
    """The module that the guide recommends hands on ours: importing it is right, and what our app has not is found."""
    files = {
        "manage.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'proj.settings')\n",
        "proj/settings.py": (
            "INSTALLED_APPS = ['django_celery_beat', 'django_tasks']\nCELERY_BROKER_URL = 'redis://'\nCELERY_TASK_DEFAULT_QUEUE = 'q'\n"
        ),
        "proj/celery.py": "import os\nfrom django_tasks import app\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'proj.settings')\n",
        "proj/__init__.py": "from .celery import app as celery_app\n__all__ = ('celery_app',)\n",
        "shop/tasks.py": "from proj import celery_app\n@celery_app.task(bind=True)\ndef one(self):\n    self.app.conf\n    self.retry()\n",
        "requirements.txt": "django-tasks-engine\nDjango~=5.2\nredis==5.2.1\ndjango-celery-beat>=2.8\nflower==2.0.1\n",
        "Procfile": "web: gunicorn proj\nw: python manage.py runworker\nf: celery --broker=$BROKER_URL flower --port=5555\n",
    }
    assert [one for one in findings(tmp_path, files) if one[1] is CHANGE] == []
    files["shop/tasks.py"] += "    celery_app.amqp\n    self.app.amqp.queues\n"
    assert [one[:3] for one in findings(tmp_path, files) if one[1] is CHANGE] == [
        (6, CHANGE, "celery_app.amqp"),
        (7, CHANGE, "self.app.amqp.queues"),
    ]


def test_workers_with_settings_of_their_own_are_told(tmp_path):
    """Ours are started by manage.py: site and workers would be on different brokers."""
    files = {
        "manage.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'proj.settings')\n",
        "work/celery.py": "import os\nfrom celery import Celery\nos.environ['DJANGO_SETTINGS_MODULE'] = 'work.settings'\napp = Celery()\n",
        "same/celery.py": (
            "import os\nfrom celery import Celery\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'proj.settings')\na = Celery()\n"
        ),
    }
    found = [(one[0], one[1], one[3]) for one in findings(tmp_path, files) if "DJANGO_SETTINGS_MODULE" in one[2]]
    assert [one[:2] for one in found] == [(3, CHANGE)]
    assert "with proj.settings: move what only work.settings has" in found[0][2]


def test_installed_apps_are_told_where_they_are_and_not_where_they_are_extended(tmp_path):
    """A file that comes first adds to them on a condition."""
    files = {
        "proj/dev.py": "from .main import *\nif DEBUG:\n    INSTALLED_APPS += ['debug_toolbar']\n",
        "proj/main.py": "INSTALLED_APPS = ['a', 'b']\n",
    }
    report = check_project([write(tmp_path, files)])
    assert {one.path.rpartition("/")[2] for one in report.findings if "INSTALLED_APPS without" in one.what} == {"main.py"}


@pytest.mark.parametrize(
    ("line", "severity"),
    [
        ("django-celery-beat==2.8.1", CHANGE), ("django_celery_beat~=2.8.0", CHANGE), ("django-celery-beat~=2.8", None),
        ("redis<5", CHANGE), ("redis[hiredis]>=4,<6", None), ('    "redis>=4.6.0,<5",', CHANGE), ('redis = "^4.5"', CHANGE),
        ('redis = {version = "~4.6", extras = ["hiredis"]}', CHANGE), ("redis==5.0.0", None), ("redis", None), ("redis-py-cluster<5", None),
        ("Django==4.2.*", CHANGE), ("django>=4.2,<6", None), ("django>=6.1", CHANGE), ("django<5.2.0", CHANGE), ("kombu==5.5.4", CHANGE),
        ("django_celery_results==2.5", LOOK), ("opentelemetry-instrumentation-celery==0.45b0", LOOK),
    ],
)  # fmt: skip
def test_what_can_not_be_installed_beside_us_is_named(tmp_path, line, severity):
    """By its specifier, as pip, Poetry and Pipenv write it."""
    assert [told for told, _ in said(tmp_path, f"{line}\n", "requirements.txt")] == ([] if severity is None else [severity])


@pytest.mark.parametrize(
    ("line", "severity", "instead"),
    [
        ("f: celery -A proj flower --port=1", CHANGE, "celery --broker $BROKER_URL flower --port=1"),
        ("f: celery --app=proj -b redis://:secret@h flower", CHANGE, "celery -b $BROKER_URL flower"),
        ("f: celery --app proj --broker=$URL flower -l info", CHANGE, "celery --broker $URL flower -l info"),
        ("f: flower -A proj --port=1", CHANGE, "celery --broker $BROKER_URL flower --port=1"),
        ("f: celery --broker=$URL flower", COUNTS, "Flower stays"),
        ("f: celery flower", COUNTS, "Flower stays"),
        ("f: flower --port=1", COUNTS, "Flower stays"),
    ],
)
def test_flowers_line_can_be_done(tmp_path, line, severity, instead):
    """It stays; an app of Celery's is what it can't have any more."""
    [(told, answer)] = said(tmp_path, f"{line}\n", "Procfile")
    assert told is severity
    assert answer.startswith(instead)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("proj/settings.py", "CELERY_ENABLE_UTC = True\n"),
        ("proj/celery.py", "from django_tasks import app\napp.conf.enable_utc = True\n"),
        ("proj/celeryconfig.py", "enable_utc = True\n"),
    ],
)
def test_one_setting_has_one_answer_wherever_it_stands(tmp_path, name, text):
    """No effect is no effect."""
    files = {"other/celery.py": "from celery import Celery\na = Celery()\na.config_from_object('proj.celeryconfig')\n", name: text}
    found = [one for one in check_project([write(tmp_path, files)]).findings if "utc" in one.what.lower()]
    assert [one.severity for one in found] == [LOOK]
    assert "no effect" in found[0].instead


def test_an_empty_patch_is_said_to_be_one(tmp_path, capsys):
    """It is for `git apply --allow-empty`."""
    assert run("--diff", str(write(tmp_path, {"shop/some.py": "x = 1\n"}))) == (0, "")
    assert "there is no patch" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--settings=tests.settings", "--pythonpath=.", "--no-color", "--traceback"])
def test_options_of_django_may_stand_behind_the_subcommand(tmp_path, option):
    """As they may behind any command of Django's."""
    write(tmp_path, {"some.py": "x = 1\n"})
    parser = load_command_class("django_tasks", "tasks").create_parser("manage.py", "tasks")
    assert parser.parse_args(["migrate_from_celery", "--check", option, str(tmp_path)]).paths == [str(tmp_path)]
    assert parser.parse_args(["queues", option]).subcommand == "queues"
