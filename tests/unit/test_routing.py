"""Where messages go."""

import re
import sys
from types import ModuleType, SimpleNamespace

import pytest
from django.test import override_settings
from kombu import Exchange, Queue

from django_tasks import routing
from django_tasks.exceptions import ImproperlyConfigured, QueueNotFound
from django_tasks.messages import Destination, TaskMessage
from django_tasks.routing import Defaults, Router, check_name


def message(task="a.b", **fields):
    return TaskMessage(id="1", task=task, **fields)


def route(router, *args, **fields):
    (destination,) = router.destinations([message(*args, **fields)])
    return destination


def test_without_settings_everything_goes_to_the_default_queue():
    """The nameless exchange leads there, in plain JSON and with priority 0."""
    assert route(Router()) == Destination(
        queue="default", exchange="", routing_key="default", priority=0, serializer="json", compression=None
    )


@pytest.mark.parametrize(
    ("task", "queue"),
    [("feed.tasks.import", "feeds"), ("web.view", "web"), ("image.resize", "media"), ("video.resize", "media"), ("other", "default")],
)
@pytest.mark.parametrize(
    "routes",
    [
        {"feed.tasks.*": "feeds", "web.view": {"queue": "web"}, re.compile(r"(image|video)\..*"): {"queue": "media"}},
        [("feed.tasks.*", "feeds"), ("web.view", {"queue": "web"}), (re.compile(r"(image|video)\..*"), {"queue": "media"})],
        ([("feed.tasks.*", "feeds"), ("web.view", {"queue": "web"})], {re.compile(r"(image|video)\..*"): "media"}),
        [
            lambda name, *args, **kw: "feeds" if name.startswith("feed") else None,
            {"web.view": "web", "image.*": "media", "video.*": "media"},
        ],
    ],
    ids=["dict", "pairs", "several", "function first"],
)
def test_routes_in_every_form(routes, task, queue):
    """Names, globs, expressions and functions, alone and in lists."""
    assert route(Router(routes=routes), task).queue == queue


def test_an_exact_name_wins_over_patterns_and_patterns_keep_their_order():
    """The most particular entry is taken, then the first that matches."""
    router = Router(routes={"a.*": "first", "a.b*": "second", "a.b": "exact"})
    assert [route(router, task).queue for task in ("a.b", "a.bc", "a.c")] == ["exact", "first", "first"]


def test_the_caller_wins_over_the_route_and_the_route_over_defaults():
    """Each option is taken from the first of the three that has it."""
    defaults = Defaults(queue="d", priority=1, serializer="yaml", compression="gzip")
    router = Router(routes={"a.b": {"queue": "r", "priority": 2, "serializer": "json", "compression": "bzip2"}}, defaults=defaults)
    assert route(router, "x") == Destination(queue="d", exchange="", routing_key="d", priority=1, serializer="yaml", compression="gzip")
    assert route(router) == Destination(queue="r", exchange="", routing_key="r", priority=2, serializer="json", compression="bzip2")
    mine = route(router, queue="m", priority=3, serializer="msgpack", compression="zstd")
    assert mine == Destination(queue="m", exchange="", routing_key="m", priority=3, serializer="msgpack", compression="zstd")


def test_a_priority_of_zero_is_a_priority():
    """Zero from the caller is not taken for none."""
    assert route(Router(routes={"a.b": {"priority": 5}}), priority=0).priority == 0


def test_the_address_in_a_route_belongs_to_its_queue():
    """A caller who names another queue does not get the route's exchange and routing key."""
    router = Router(routes={"a.b": {"queue": "r", "exchange": "e", "routing_key": "k"}})
    assert (route(router).exchange, route(router).routing_key) == ("e", "k")
    assert route(router, queue="m") == Destination(queue="m", exchange="", routing_key="m")


def test_functions_are_asked_as_celery_asks():
    """They get name, args, kwargs, options and the task, and are asked for every message."""
    asked = []
    task = object()

    def ask(name, args, kwargs, options, task=None, **kw):
        asked.append((name, args, kwargs, options, task))
        return {"queue": f"q{len(asked)}"}

    routing.set_task_lookup({"a.b": task}.get)
    try:
        router = Router(routes=ask)
        call = message(args=(1,), kwargs={"k": 2}, priority=0, queue="")
        assert [destination.queue for destination in router.destinations([call, call])] == ["q1", "q2"]
    finally:
        from django_tasks.registry import registry

        routing.set_task_lookup(registry.find)
    name, args, kwargs, options, found = asked[0]
    assert (name, args, kwargs, found) == ("a.b", (1,), {"k": 2}, task)
    assert (options["task_id"], options["priority"]) == ("1", 0)
    assert "queue" not in options


@pytest.fixture
def module(monkeypatch):
    made = ModuleType("routes_of_test")

    class Router:
        def route_for_task(self, task, args=None, kwargs=None):
            return "old style"

    made.Router = Router
    made.ask = lambda *args, **kwargs: "function"
    made.table = {"a.*": "table"}
    monkeypatch.setitem(sys.modules, "routes_of_test", made)
    return made


@pytest.mark.parametrize(
    ("path", "queue"),
    [
        ("routes_of_test.ask", "function"),
        ("routes_of_test:ask", "function"),
        ("routes_of_test.table", "table"),
        ("routes_of_test.Router", "old style"),
    ],
)
def test_routers_by_dotted_path(module, path, queue):
    """A path leads to a function, a table or a router class, alone or in a list."""
    assert route(Router(routes=path)).queue == queue
    assert route(Router(routes=[path])).queue == queue


@pytest.mark.parametrize(
    ("routes", "match"),
    [
        (5, "5"),
        ([5], "5"),
        ({"a": 5}, "'a' to 5"),
        ({5: "a"}, "5"),
        ([("a", "b", "c")], "'a'"),
        ("no_such_module_at_all.router", "no_such_module_at_all"),
        ("nodots", "nodots"),
    ],
    ids=repr,
)
def test_routes_that_make_no_sense_are_refused(routes, match):
    """The error shows the entry, when the router is built."""
    with pytest.raises(ImproperlyConfigured, match=match):
        Router(routes=routes)


def test_a_router_that_answers_nonsense_is_named():
    """What a function returns is checked."""
    with pytest.raises(ImproperlyConfigured, match="returned 5"):
        route(Router(routes=lambda *args, **kwargs: 5))


@pytest.mark.parametrize(
    "queues",
    [
        ["one", "two"],
        [Queue("one"), Queue("two", Exchange("e"), routing_key="k")],
        {"one": {}, "two": {"exchange": "e", "routing_key": "k"}},
        {"one": None, "two": {"binding_key": "k"}},
        (SimpleNamespace(name="one"), "two"),
    ],
    ids=repr,
)
def test_queues_in_every_form(queues):
    """Names, kombu Queues, what looks like one, and dictionaries all say which queues there are."""
    router = Router(queues=queues)
    assert router.queue_names == ["one", "two"]
    assert route(router, queue="two") == Destination(queue="two", exchange="", routing_key="two")


def test_without_queues_a_worker_consumes_the_default_one():
    """TASK_QUEUES unset means the default queue."""
    assert Router(defaults=Defaults(queue="d")).queue_names == ["d"]


def test_queues_that_make_no_sense_are_refused():
    """An entry without a name is shown."""
    with pytest.raises(ImproperlyConfigured, match="5"):
        Router(queues=[5])


def test_a_missing_queue_is_created_or_refused():
    """With TASK_CREATE_MISSING_QUEUES off, the nearest name is told."""
    assert route(Router(queues=["one"]), queue="other").queue == "other"
    router = Router(queues=["emails", "reports"], create_missing=False)
    assert route(router, queue="emails").queue == "emails"
    with pytest.raises(QueueNotFound, match=r"'email'.*emails, reports.*did you mean 'emails'"):
        route(router, queue="email")
    with pytest.raises(QueueNotFound, match="'default'"):
        route(router)


def test_topic_queues_keep_their_exchange():
    """A queue bound to a topic exchange is reached through it, by the caller's routing key."""
    router = Router(
        queues=[Queue("feeds", Exchange("media", type="topic"), routing_key="feed.#"), Queue("all", Exchange("all", type="fanout"))]
    )
    assert route(router, queue="feeds", routing_key="feed.x") == Destination(queue="feeds", exchange="media", routing_key="feed.x")
    assert route(router, exchange="media", routing_key="feed.x.y").queue == "feeds"
    assert route(router, exchange="all", routing_key="whatever").queue == "all"
    assert route(router, exchange="media", routing_key="other").queue == "default"


@pytest.mark.parametrize(
    ("binding", "key", "matches"),
    [
        ("a.*", "a.b", True),
        ("a.*", "a.b.c", False),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("#.b", "b", True),
        ("a.#.b", "a.b", True),
        ("a.#.b", "a.x.y.b", True),
        ("a.#.b", "ab", False),
        ("#", "any.thing", True),
        ("a.b", "a.b", True),
        ("a.b", "axb", False),
    ],
)
def test_topic_bindings(binding, key, matches):
    """A star is one word and a hash any number of them, as AMQP has it."""
    router = Router(queues=[Queue("bound", Exchange("e", type="topic"), routing_key=binding)])
    assert (route(router, exchange="e", routing_key=key).queue == "bound") is matches


def test_the_default_queue_has_its_own_address():
    """TASK_DEFAULT_EXCHANGE and its routing key count where the exchange is not a direct one."""
    router = Router(defaults=Defaults(queue="d", exchange="e", exchange_type="topic", routing_key="k"))
    assert route(router) == Destination(queue="d", exchange="e", routing_key="k")


@pytest.mark.parametrize("name", ["a", "emails", "über-queue 1", "a.b:c/d#e", "x" * 255, "日本"])
def test_odd_names_are_fine(name):
    """Whatever a text column and a broker can carry is a queue's name."""
    assert route(Router(), queue=name).queue == name


@pytest.mark.parametrize("name", ["", "x" * 256, "a\nb", "a\x00", "a\x7f", "a\x06\x16b", "\ud800", 5, None], ids=ascii)
def test_names_that_no_broker_can_carry_are_refused(name):
    """The error shows the name and what is allowed."""
    with pytest.raises(ValueError, match="255 characters"):
        check_name(name)


def test_a_message_to_an_impossible_queue_is_refused():
    """Names are looked at where messages are routed: queues, routes, exchanges and keys."""
    for fields in ({"queue": "a\nb"}, {"exchange": "a\nb", "routing_key": "k"}, {"exchange": "e", "routing_key": "x" * 256}):
        with pytest.raises(ValueError, match="255 characters"):
            route(Router(), **fields)


@pytest.mark.parametrize("priority", [-101, 256, 1.5, "3", True])
def test_impossible_priorities_are_refused(priority):
    """The range is that of the database broker, in whole numbers."""
    with pytest.raises(ValueError, match="-100 to 255"):
        route(Router(), priority=priority)


def test_destinations_are_made_once():
    """Alike messages share one destination, and any number of queues does not fill the memory."""
    router = Router()
    one, two = router.destinations([message(args=(1,)), message(args=(2,))])
    assert one is two
    router.destinations([message(queue=f"q{i}") for i in range(10_050)])
    assert len(router._known) <= 10_000


def test_options_without_effect_are_known():
    """What a route can't do is listed, for the system check."""
    assert Router(routes={"a": {"queue": "b", "expires": 3}, "c": "d", "e.*": {"delivery_mode": 1}}).unused_route_options == [
        "delivery_mode",
        "expires",
    ]
    assert Router(routes=lambda *args, **kwargs: None).unused_route_options == []


def test_the_router_follows_the_settings():
    """current() is one router until the settings change."""
    assert routing.current() is routing.current()
    with override_settings(DJANGO_TASKS={"TASK_DEFAULT_QUEUE": "mine", "TASK_DEFAULT_PRIORITY": 4, "TASK_ROUTES": {"a.*": "routed"}}):
        assert route(routing.current(), "x") == Destination(queue="mine", exchange="", routing_key="mine", priority=4)
        assert route(routing.current()).queue == "routed"
    assert route(routing.current()).queue == "default"


@pytest.mark.parametrize("queue", [[], ["a"], {"name": "a"}])
def test_what_can_be_no_queue_is_refused_by_its_value(queue):
    """Options come from anywhere; a list was «unhashable type»."""
    with pytest.raises(ValueError, match="is no name for a queue: it must be text"):
        Router().destinations([TaskMessage(id="1", task="x", queue=queue)])


def test_what_can_be_no_priority_is_refused_by_its_value():
    """As a number that is out of range."""
    with pytest.raises(ValueError, match=r"the priority \[\] must be a whole number"):
        Router().destinations([TaskMessage(id="1", task="x", priority=[])])
