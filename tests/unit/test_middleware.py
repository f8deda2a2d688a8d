"""The chain of middleware."""

import pytest

from django_tasks.messages import TaskMessage
from django_tasks.middleware import Middleware, compose


class Named(Middleware):
    def __init__(self, name, log):
        self.name, self.log = name, log

    def publish(self, message, call_next):
        self.log.append(f"{self.name} before")
        result = call_next(message)
        self.log.append(f"{self.name} after")
        return result


def test_the_first_entry_is_the_outermost():
    """Layers run in their order on the way in, and in reverse on the way out."""
    log = []
    chain = compose([Named("one", log), Named("two", log)], "publish", lambda message: log.append("sent") or message)
    message = TaskMessage(id="1", task="a")
    assert chain(message) is message
    assert log == ["one before", "two before", "sent", "two after", "one after"]


def test_a_method_that_is_not_overridden_costs_nothing():
    """A chain without overrides is the innermost function itself."""

    def innermost(request):
        return request

    assert compose([Middleware(), Named("one", [])], "execute", innermost) is innermost
    assert compose([], "publish", innermost) is innermost


def test_a_layer_may_change_or_refuse():
    """What a layer hands on is what the next one gets, and what it raises goes to the caller."""

    class Shout(Middleware):
        def execute(self, request, call_next):
            return call_next(request.upper()) + "!"

    class Refuse(Middleware):
        def execute(self, request, call_next):
            raise PermissionError(request)

    assert compose([Shout()], "execute", lambda request: request)("a") == "A!"
    with pytest.raises(PermissionError, match="A"):
        compose([Shout(), Refuse()], "execute", lambda request: request)("a")


def test_defaults_pass_on():
    """Middleware's own methods call the next one unchanged."""
    import asyncio

    async def innermost(request):
        return request

    layer = Middleware()
    assert layer.publish("m", lambda message: message) == "m"
    assert layer.execute("r", lambda request: request) == "r"
    assert asyncio.run(layer.aexecute("r", innermost)) == "r"
