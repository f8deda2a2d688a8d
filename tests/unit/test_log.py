"""Task loggers, and task ids on records."""

import logging
import subprocess
import sys

import pytest

from django_tasks import log
from django_tasks.context import Request, running
from django_tasks.messages import TaskMessage


@pytest.fixture
def records():
    """A logger that nobody has touched, and what it logs."""
    kept = []
    handler = logging.Handler()
    handler.emit = kept.append
    logger = logging.Logger("probe")  # noqa: LOG001  one that nobody else knows
    logger.addHandler(handler)
    return logger, kept


@pytest.fixture
def installed():
    # A test of workers may have left it in this process.
    log.remove_task_context()
    before = logging.getLogRecordFactory()
    log.install_task_context()
    yield
    log.remove_task_context()
    assert logging.getLogRecordFactory() is before


def in_task():
    return running(Request(message=TaskMessage(id="42", task="a.b")))


def test_every_record_has_the_task_while_it_is_installed(installed, records):
    """A logger that knows nothing of tasks makes records with the id and name of the one that runs."""
    logger, kept = records
    with in_task():
        logger.warning("inside")
    logger.warning("outside")
    assert [(record.task_id, record.task_name) for record in kept] == [("42", "a.b"), ("", "")]


def test_installing_twice_is_installing_once(installed):
    """A second install changes nothing, and one removal undoes it."""
    factory = logging.getLogRecordFactory()
    log.install_task_context()
    assert logging.getLogRecordFactory() is factory


def test_the_previous_factory_stays_in_use(records):
    """What another library adds to records is still added."""
    logger, kept = records
    before = logging.getLogRecordFactory()

    def theirs(*args, **kwargs):
        record = before(*args, **kwargs)
        record.theirs = 1
        return record

    logging.setLogRecordFactory(theirs)
    try:
        log.install_task_context()
        logger.warning("x")
        log.remove_task_context()
        assert logging.getLogRecordFactory() is theirs
    finally:
        logging.setLogRecordFactory(before)
    assert (kept[0].theirs, kept[0].task_id) == (1, "")


def test_a_factory_on_top_of_ours_is_left_alone():
    """Removing never takes away what was put on top later."""
    before = logging.getLogRecordFactory()
    log.install_task_context()
    ours = logging.getLogRecordFactory()

    def on_top(*args, **kwargs):
        return ours(*args, **kwargs)

    logging.setLogRecordFactory(on_top)
    try:
        log.remove_task_context()
        assert logging.getLogRecordFactory() is on_top
    finally:
        logging.setLogRecordFactory(ours)
        log.remove_task_context()
    assert logging.getLogRecordFactory() is before


def test_a_task_logger_has_the_fields_in_every_process(caplog):
    """Records of get_task_logger() have them without the factory, and the filter is added once."""
    logger = log.get_task_logger("test_log.tasks")
    assert log.get_task_logger("test_log.tasks") is logger
    assert sum(isinstance(known, log.TaskContextFilter) for known in logger.filters) == 1
    with caplog.at_level(logging.INFO), in_task():
        logger.info("hello")
    assert (caplog.records[-1].task_id, caplog.records[-1].task_name) == ("42", "a.b")


def test_the_filter_keeps_what_is_there():
    """Fields that the caller set by extra= are not replaced, and every record passes."""
    record = logging.makeLogRecord({"task_id": "mine", "task_name": "m"})
    assert log.TaskContextFilter().filter(record)
    assert record.task_id == "mine"


def test_a_direct_call_is_no_task(installed, records):
    """A task function that is called as a function logs without an id."""
    logger, kept = records
    with running(Request(message=TaskMessage(id="42", task="a.b"), called_directly=True)):
        logger.warning("x")
    assert kept[0].task_id == ""


def test_settings_that_import_crontab_leave_the_loggers_on() -> None:
    """They make our loggers before Django reads LOGGING, which turns off what it finds, unless it says otherwise."""
    apps = "INSTALLED_APPS=['django.contrib.contenttypes', 'django_celery_beat', 'django_tasks']"
    program = f"""
import logging, django
from django_tasks.schedules import crontab
from django.conf import settings
early = logging.getLogger("django_tasks.canvas"), logging.getLogger("somebodys")
settings.configure({apps}, LOGGING={{"version": 1}}, USE_TZ=True)
django.setup()
print([logger.disabled for logger in early])
"""
    said = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True, timeout=50).stdout
    assert said.split() == ["[False,", "True]"]
