"""``app.events`` as the guide on monitoring uses it, and ``app.connection()``."""

import sys
import threading

import pytest
from kombu import Connection

from django_tasks import app, events, exceptions
from django_tasks.events.channel import lamport
from django_tasks.events.routingkeys import batch_key_of, matching, routing_key_of
from django_tasks.exceptions import EncodeError, ImproperlyConfigured, OperationalError
from django_tasks.testing.event_contract import heard, task_event


@pytest.fixture(autouse=True)
def _memory(settings, request):
    settings.DJANGO_TASKS = {"BROKER_URL": f"memory://{request.node.name}"}


def sent_soon(*batch):
    """Send from another thread as soon as somebody listens."""
    from django_tasks.events import memory

    def send():
        deadline = threading.Event()
        while not memory._receivers:
            deadline.wait(0.005)
        events.current().send(batch)

    thread = threading.Thread(target=send)
    thread.start()
    return thread


class TestReceiver:
    def test_the_sample_of_the_guide(self, capsys):
        """A state that gets everything, and a handler for failures that finds the name of the task in it."""
        state = app.events.State()

        def announce_failed_tasks(event):
            state.event(event)
            task = state.tasks.get(event["uuid"])
            print(f"TASK FAILED: {task.name}[{task.uuid}] {task.info()}")

        sender = sent_soon(task_event("received", 1, name="shop.add", args="()", kwargs="{}"), task_event("failed", 1, exception="Oops()"))
        with app.connection() as connection:
            recv = app.events.Receiver(connection, handlers={"task-failed": announce_failed_tasks, "*": state.event})
            recv.capture(limit=2, timeout=20, wakeup=True)
        sender.join()
        assert capsys.readouterr().out == "TASK FAILED: shop.add[id-1] {'args': '()', 'kwargs': '{}', 'exception': 'Oops()'}\n"

    def test_only_what_has_a_handler(self):
        """Without a handler for ``*`` other events pass by; both count for the limit."""
        found = []
        sender = sent_soon(task_event("received", 1), task_event("failed", 1))
        app.events.Receiver(handlers={"task-failed": found.append}).capture(limit=2, timeout=20)
        sender.join()
        assert [one["type"] for one in found] == ["task-failed"]
        assert found[0]["local_received"] >= found[0]["timestamp"]

    def test_a_routing_key(self):
        """It narrows what is heard."""
        sender = sent_soon(task_event("received", 1), task_event("failed", 1))
        assert [one["type"] for one in app.events.Receiver(routing_key="*.failed").itercapture(limit=1, timeout=20)] == ["task-failed"]
        sender.join()

    def test_silence_ends_with_a_timeout(self):
        """It is Python's TimeoutError, as in Celery."""
        with pytest.raises(TimeoutError, match=r"within 0.05 seconds") as info:
            app.events.Receiver().capture(timeout=0.05)
        assert isinstance(info.value, exceptions.TimeoutError)

    def test_a_handler_may_stop_it(self):
        """``should_stop`` ends it after the event; without a limit it would go on for ever."""
        found = []

        def handle(event):
            found.append(event["uuid"])
            recv.should_stop = True

        recv = app.events.Receiver(handlers={"*": handle})
        sender = sent_soon(task_event("received", 1), task_event("received", 2))
        recv.capture()
        sender.join()
        assert found == ["id-1"]

    def test_clocks_follow(self):
        """What this process sends later has a later time than what it heard; clients' own times mean nothing."""
        sender = sent_soon(task_event("sent", 1, clock=2**62), task_event("started", 1, clock=lamport.value + 1000))
        first, second = app.events.Receiver().itercapture(limit=2, timeout=20)
        sender.join()
        assert first["clock"] < 2**62
        assert second["clock"] < lamport.value < 2**62


class TestDispatcher:
    def test_send(self):
        """Its events have the common fields and a name of their own."""
        with events.current().listen() as receiver:
            with app.events.Dispatcher(hostname="me@host") as dispatcher:
                dispatcher.send("shop-sold", item="tea")
            with app.events.default_dispatcher() as dispatcher:
                dispatcher.send("task-custom", uuid="1")
            sold, custom = heard(receiver, 2)
        assert (sold["type"], sold["hostname"], sold["item"]) == ("shop-sold", "me@host", "tea")
        assert custom["hostname"].startswith("gen")
        assert {"timestamp", "pid", "clock", "utcoffset"} <= set(custom)

    def test_groups_and_switches(self):
        """Other groups than those asked for, and whatever a disabled one is given, go nowhere."""
        with events.current().listen() as receiver, app.events.Dispatcher(groups=["task"]) as dispatcher:
            dispatcher.send("shop-sold")
            dispatcher.disable()
            dispatcher.send("task-unheard")
            dispatcher.enable()
            dispatcher.send("task-heard")
            assert [one["type"] for one in heard(receiver, 1)] == ["task-heard"]

    def test_it_keeps_what_cannot_be_sent(self, monkeypatch):
        """Until the server is back; in order, and without what can't be serialized."""
        away = True
        send = events.current().send

        def sending(batch):
            if away:
                raise OperationalError("away")
            send(batch)

        monkeypatch.setattr(events.current(), "send", sending)
        with events.current().listen() as receiver, app.events.Dispatcher() as dispatcher:
            dispatcher.send("task-first")
            dispatcher.send("task-second")
            away = False
            with pytest.raises(EncodeError):
                dispatcher.send("task-odd", value=object())
            dispatcher.flush()
            assert [one["type"] for one in heard(receiver, 2)] == ["task-first", "task-second"]
            away = True
            with pytest.raises(OperationalError), app.events.default_dispatcher() as plain:
                plain.send("task-third")


class TestConnection:
    def test_of_a_database(self, settings):
        """A stand-in that opens and closes; what it hasn't it says."""
        settings.DJANGO_TASKS = {"BROKER_URL": "db://default"}
        with app.connection() as connection:
            assert (connection.as_uri(), connection.connected, hasattr(connection, "channel")) == ("db://default", True, False)
            with pytest.raises(AttributeError, match="db://default is no message broker"):
                connection.default_channel  # noqa: B018
            assert connection.clone().ensure_connection(max_retries=3).url == "db://default"

    def test_of_a_message_broker(self, settings):
        """A kombu connection by the settings, without our own words in the options; nothing connects."""
        settings.DJANGO_TASKS = {
            "BROKER_URL": "redis://:secret@nowhere:1/7",
            "BROKER_TRANSPORT_OPTIONS": {"priority_order": "celery", "global_keyprefix": "x:"},
        }
        for make in (app.connection, app.connection_for_read, app.connection_for_write):
            with make(heartbeat=7) as connection:
                assert isinstance(connection, Connection)
                assert (connection.hostname, connection.virtual_host, connection.heartbeat) == ("nowhere", "7", 7)
                assert connection.transport_options["global_keyprefix"] == "x:"
                assert "priority_order" not in connection.transport_options

    def test_of_another_url(self):
        """Options that are None are as good as absent."""
        with app.connection("amqp://u:p@elsewhere//", ssl=None, transport_options={"confirm_publish": True}) as connection:
            assert connection.as_uri() == "amqp://u:**@elsewhere:5672//"
            assert connection.transport_options["confirm_publish"] is True

    @pytest.mark.parametrize(
        ("url", "options", "tls", "hostname"),
        [
            ("redis://host/0", {}, False, "host"),
            ("rediss://host/0", {}, {"ssl_cert_reqs": "required"}, "host"),
            ("rediss://host/0?ssl_cert_reqs=CERT_NONE", {}, {"ssl_cert_reqs": "none"}, "host"),
            ("rediss://host/0?ssl_check_hostname=false", {}, {"ssl_cert_reqs": "required", "ssl_check_hostname": False}, "host"),
            ("redis://host/0", {"BROKER_USE_SSL": True}, {"ssl_cert_reqs": "required"}, "host"),
            ("rediss://host/0", {"BROKER_USE_SSL": {"ca_certs": "x"}}, {"ssl_cert_reqs": "required", "ssl_ca_certs": "x"}, "host"),
            ("unix:///tmp/redis.sock?db=3", {}, False, "socket:///tmp/redis.sock?virtual_host=3"),
            ("redis+socket:///tmp/redis.sock", {}, False, "socket:///tmp/redis.sock?virtual_host=0"),
        ],
    )
    def test_redis_means_to_kombu_what_it_means_to_us(self, settings, url, options, tls, hostname):
        """TLS looks at certificates unless it is told not to; options of the URL count."""
        settings.DJANGO_TASKS = {"BROKER_URL": url, **options}
        with app.connection() as connection:
            assert (connection.ssl, connection.hostname) == (tls, hostname)

    def test_what_cannot_be_used(self):
        """An unknown scheme is named as the setting that it stands in."""
        with pytest.raises(ImproperlyConfigured, match="BROKER_URL nosuch://host can't be used"):
            app.connection("nosuch://host")


class TestChannels:
    def test_a_package_that_is_missing_is_named(self, monkeypatch):
        """By the extra that brings it, when the channel is opened and not in the middle of the work."""
        monkeypatch.delitem(sys.modules, "kombu.transport.redis", raising=False)
        monkeypatch.setitem(sys.modules, "packaging.version", None)
        monkeypatch.setattr("kombu.transport._transport_cache", {})
        with pytest.raises(ImproperlyConfigured, match=r"pip install 'django-tasks-engine\[redis\]'"):
            events.open_channel("redis://localhost")

    def test_brokers_that_cannot_tell_everybody_drop_events(self):
        """Workers send as if nobody listened; whoever wants to listen is told."""
        channel = events.open_channel("filesystem://")
        assert type(channel).__name__ == "KombuEvents"
        silent = events.open_channel("zookeeper://localhost")
        silent.send([task_event("started", 1)])
        with pytest.raises(ImproperlyConfigured, match="zookeeper://localhost carries no events"):
            silent.listen()

    def test_changed_settings_make_a_new_channel(self, settings):
        """Not only another URL: options count from the next event on."""
        settings.DJANGO_TASKS = {"BROKER_URL": "redis://localhost"}
        first = events.current()
        assert events.current() is first
        settings.DJANGO_TASKS = {"BROKER_URL": "redis://localhost", "BROKER_TRANSPORT_OPTIONS": {"global_keyprefix": "x:"}}
        assert events.current() is not first

    def test_an_unknown_scheme(self):
        """The nearest one is named."""
        with pytest.raises(ImproperlyConfigured, match="no event channel has the scheme 'rediz'; did you mean redis://"):
            events.open_channel("rediz://localhost")


@pytest.mark.parametrize(
    ("pattern", "meant", "not_meant"),
    [
        ("#", ["task-started", "odd", ""], []),
        ("task.*", ["task-started"], ["task", "task-a-b", "worker-online"]),
        ("task.#", ["task", "task-started", "task-a-b"], ["tasks-x"]),
        ("#.failed", ["failed", "task-failed", "a-b-failed"], ["task-failed-x", "taskfailed"]),
        ("*.failed", ["task-failed"], ["failed", "a-b-failed"]),
        ("a.#.z", ["a-z", "a-b-z", "a-b-c-z"], ["a", "az", "a-b"]),
        ("#.#", ["", "a", "a-b"], []),
        ("task.fail?d", [], ["task-failed"]),
    ],
)
def test_routing_keys_mean_what_they_mean_to_rabbitmq(pattern, meant, not_meant):
    """``*`` is one word, ``#`` any number of them, and everything else is itself."""
    assert [type_ for type_ in [*meant, *not_meant] if matching(pattern)(type_)] == meant


def test_keys_of_events():
    """Dots for dashes; a list goes by its group."""
    assert (routing_key_of("task-started"), batch_key_of("task-started")) == ("task.started", "task.multi")
