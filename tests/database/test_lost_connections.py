"""The server closes a connection of a worker while nobody uses it: by KILL, by its limit on idle time, by a restart."""

import threading
from typing import Any

import pytest
from django.db import connections, transaction

from django_tasks import deadletters, result_backends, states
from django_tasks.dbaccess import close_broken
from django_tasks.exceptions import OperationalError
from django_tasks.messages import DeadMessage
from django_tasks.models import DeadLetter, Message
from tests.database.lane import Lane, same
from tests.unit.worker_rig import HandTurned, Pushing, envelope

SERVERS = [pytest.param("postgres", marks=pytest.mark.postgres), pytest.param("mysql", marks=pytest.mark.mysql)]
pytestmark = [
    pytest.mark.django_db(transaction=True, databases=["default", "postgres", "mysql"]),
    pytest.mark.parametrize("server", SERVERS),
]


def end_connection(alias: str) -> None:
    """Let the server close this thread's connection, asked by another one."""
    connection = connections[alias]
    ask, end = {
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend(%s, 10000)"),
        "mysql": ("SELECT CONNECTION_ID()", "KILL %s"),
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(ask)
        number = cursor.fetchone()[0]

    def kill() -> None:
        try:
            with connections[alias].cursor() as cursor:
                cursor.execute(end, [number])
        finally:
            connections[alias].close()

    other = threading.Thread(target=kill)
    other.start()
    other.join(20)


def patiently(work: Any) -> Any:
    """Do it; once more where a server is said to be away, as a worker does."""
    try:
        return work()
    except OperationalError:
        return work()


@pytest.fixture
def messages(server: str, settings: Any) -> str:
    """Messages and results in this server."""
    settings.DJANGO_TASKS = {"BROKER_URL": f"db://{server}", "RESULT_BACKEND": f"db://{server}"}
    return server


def test_a_batch_takes_effect_after_its_connection_was_closed(messages: str) -> None:
    """What ran meanwhile is stored and settled, in the one transaction that begins on a connection that is gone.

    MariaDB is asked to begin it before anything is done: nobody is told of an outage for it.
    """
    lane = Lane()
    try:
        result = same.delay(7)
        (delivery,) = lane.consumer.receive(1, 5)
        lane.completer.add(lane.run(delivery))
        end_connection(messages)
        flush = lambda: lane.completer.flush(lane.consumer)
        assert len(flush() if messages == "mysql" else patiently(flush)) == 1
        assert result_backends.current().fetch([result.id])[result.id].status == states.SUCCESS
        assert Message.objects.using(messages).count() == 0
    finally:
        lane.consumer.close()


def test_dead_letters_are_recorded(server: str, settings: Any) -> None:
    """They have a transaction of their own, in whatever database the router chooses."""
    settings.DATABASE_ROUTERS = [type("ToServer", (), {"db_for_write": lambda self, model, **hints: server})()]
    letter = DeadMessage(envelope=envelope("t", "1"), reason="rejected", detail="", deliveries=1)
    connections[server].ensure_connection()
    end_connection(server)
    patiently(lambda: deadletters.record([letter]))
    assert DeadLetter.objects.using(server).count() == 1


def test_a_consumer_that_failed_tries_no_broken_connection_again(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of its connections it was, and whatever used it: a signal receiver, a look at what is parked."""
    monkeypatch.setattr("django_tasks.worker.consumerthread.time.sleep", lambda seconds: None)
    end_connection(server)
    broken = connections[server].connection
    HandTurned(Pushing("lost")).thread._stumble(RuntimeError("what came of it"))
    assert connections[server].connection is not broken
    transaction.set_autocommit(True, using=server)


def test_a_connection_that_answers_is_kept(server: str) -> None:
    """Opening one costs more than most tasks."""
    connections[server].ensure_connection()
    kept = connections[server].connection
    close_broken()
    assert connections[server].connection is kept
