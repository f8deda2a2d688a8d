"""What a type checker sees of tasks: their calls are checked, and their results have the function's type."""

from typing import Any, assert_type

from django_tasks import AsyncResult, EagerResult, Signature, Task, app, chain, chord, current_task, group, shared_task, signature


@shared_task
def add(x: int, y: int = 0) -> int:
    """Add."""
    return x + y


@shared_task(name="shop.add", max_retries=5, queue="slow", autoretry_for=(OSError,), retry_backoff=True)
def add_with_options(x: int, y: int = 0) -> int:
    """Add."""
    return x + y


@shared_task(bind=True)
def bound(self: Task[[str], bytes], text: str) -> bytes:
    """Encode."""
    assert_type(self.request.retries, int)
    if not text:
        raise self.retry(countdown=3)
    return text.encode()


@shared_task
async def fetch(url: str) -> str:
    """Fetch."""
    return url


@shared_task(bind=True, max_retries=None)
async def fetch_bound(self: Any, url: str) -> str:
    """Fetch."""
    return url


@app.task
def on_app(x: int) -> str:
    """Show."""
    return str(x)


@app.task(bind=True, ignore_result=True)
def on_app_bound(self: Any, x: int) -> str:
    """Show."""
    return str(x)


class Report(Task[[int], str]):
    """A task of one's own class."""

    acks_late = True
    time_limit = 30.0

    def run(self, month: int) -> str:
        """Write the report."""
        return str(month)


assert_type(add(1, 2), int)
assert_type(add.delay(1), AsyncResult[int])
assert_type(add.delay(1).get(timeout=3), int)
assert_type(add.apply((1,)), EagerResult[int])
assert_type(add.apply_async((1, 2), countdown=10, queue="slow", priority=3, link=add.s(3)), AsyncResult[int])
assert_type(add.delay_on_commit(1), AsyncResult[int])
assert_type(add.apply_async_on_commit((1,), queue="slow"), AsyncResult[int])
assert_type(add.s(1), Signature[int])
assert_type(add.si(1, 2).delay(), AsyncResult[int])
assert_type(add.AsyncResult("id"), AsyncResult[int])
assert_type(add_with_options.delay(1, y=2), AsyncResult[int])
assert_type(bound.delay("text"), AsyncResult[bytes])
assert_type(fetch.delay("url"), AsyncResult[str])
assert_type(fetch_bound.delay("url"), AsyncResult[str])
assert_type(on_app.delay(3), AsyncResult[str])
assert_type(on_app_bound.delay(3), AsyncResult[str])
assert_type(Report().delay(3), AsyncResult[str])
assert_type(add.acks_late, bool)
assert_type(add.time_limit, float | None)
add.time_limit = 3


async def from_async_code() -> None:
    """Async forms have the same types."""
    assert_type(await add.adelay(1), AsyncResult[int])
    assert_type(await add.aapply_async((1,), countdown=3), AsyncResult[int])
    assert_type(await (await add.adelay(1)).aget(), int)
    assert_type(await add.s(1).adelay(2), AsyncResult[int])
    await (await group(add.s(1), add.s(2)).aapply_async(countdown=3)).aget()


# Wrong calls are found before they are made.
add.delay("1")  # type: ignore[arg-type]
add.delay()  # type: ignore[call-arg]
add.delay(1, z=2)  # type: ignore[call-arg]
add_with_options.delay(1, 2, 3)  # type: ignore[call-arg]
bound.delay()  # type: ignore[call-arg]
bound.delay(3)  # type: ignore[arg-type]
fetch.delay(3)  # type: ignore[arg-type]
on_app.delay("x")  # type: ignore[arg-type]
Report().delay("x")  # type: ignore[arg-type]
add.delay_on_commit("1")  # type: ignore[arg-type]
add.apply_async((1,), cuntdown=3)  # type: ignore[call-arg]
add.apply_async((1,), priority="high")  # type: ignore[arg-type]
add.nothing()  # type: ignore[attr-defined]

# Wrong options, too.
shared_task(max_retrys=3)  # type: ignore[call-overload]
shared_task(queue="q", retry_jitter="yes")  # type: ignore[call-overload]


def elsewhere(x: int) -> str:
    """Somebody else's function."""
    return str(x)


async def elsewhere_async(x: int) -> str:
    """Somebody else's coroutine."""
    return str(x)


# A function becomes a task without a decorator, too.
assert_type(app.task(elsewhere, name="shop.elsewhere", queue="slow").delay(1), AsyncResult[str])
assert_type(shared_task(elsewhere_async, name="shop.elsewhere_async").delay(1), AsyncResult[str])
app.task(elsewhere, max_retrys=3)  # type: ignore[call-overload]
shared_task(elsewhere).delay("x")  # type: ignore[arg-type]

# Workflows.
assert_type(signature("elsewhere.add", args=(1, 2)), Signature[Any])
group(add.s(1), add.s(2)).delay()
chord([add.s(1)], add.s()).delay()
chain(add.s(1), add.s(2)).delay()
app.send_task("elsewhere.add", (1, 2), countdown=3)
app.send_task("elsewhere.add", (1, 2), cuntdown=3)  # type: ignore[call-arg]
app.conf.task_acks_late = False
if current_task:
    current_task.update_state(state="PROGRESS")
