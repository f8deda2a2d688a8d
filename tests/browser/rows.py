"""Rows worth looking at: an afternoon in a shop that works in the background."""

import json
from datetime import timedelta
from uuid import NAMESPACE_DNS, uuid5

from django_tasks import app, clock, deadletters, states
from django_tasks.messages import DeadMessage, Envelope
from django_tasks.models import Queue, TaskResult, Worker

TRACEBACK = """Traceback (most recent call last):
  File "shop/tasks.py", line 41, in charge
    receipt = gateway.charge(order.card, order.total)
  File "shop/gateway.py", line 88, in charge
    raise PaymentRefused(answer["reason"], order=order_id)
shop.gateway.PaymentRefused: card expired (order 20417)
"""

_CALLS = (
    ("shop.tasks.send_receipt", states.SUCCESS, "mail", '["anna@example.org", 20418]', "null", 0.084),
    ("shop.tasks.charge", states.FAILURE, "default", "[20417]", None, 1.31),
    ("shop.tasks.resize_images", states.STARTED, "slow", '[["tea.png", "cup.png"]]', None, None),
    ("shop.tasks.sync_stock", states.RETRY, "default", "[]", None, 0.402),
    ("shop.tasks.monthly_report", states.REVOKED, "slow", "[]", None, None),
    ("shop.tasks.send_receipt", states.SUCCESS, "mail", '["bo@example.org", 20416]', "null", 0.079),
    ("shop.tasks.count_sales", states.SUCCESS, "default", '["2026-11-20"]', '{"orders": 412, "total": "9 318.40"}', 4.72),
    ("shop.tasks.resize_images", "PROGRESS", "slow", '[["kettle.png"]]', '{"done": 3, "of": 8}', None),
)


def fill() -> None:
    """Make results, messages, dead letters, queues and workers."""
    _results()
    _workers()
    for number in range(5):
        app.send_task("shop.tasks.send_receipt", (f"customer{number}@example.org", 20420 + number), queue="mail", priority=5)
    app.send_task("shop.tasks.monthly_report", kwargs={"year": 2026, "month": 11}, queue="slow", countdown=5400)
    Queue.objects.create(name="slow", paused_at=clock.now() - timedelta(minutes=12), paused_by="admin", reason="the image host is down")
    deadletters.record(
        [_dead("shop.tasks.old_name", "unknown task", b"[[20401], {}, {}]"), _dead("shop.tasks.charge", "unreadable", b"\x80\x04\x95")]
    )


def _results() -> None:
    now = clock.now()
    error = json.dumps({"exc_type": "PaymentRefused", "exc_message": ["card expired (order 20417)"], "exc_module": "shop.gateway"})
    for number, (task, state, queue, args, value, runtime) in enumerate(reversed(_CALLS)):
        created = now - timedelta(seconds=97 * (len(_CALLS) - number))
        TaskResult.objects.create(
            task_id=str(uuid5(NAMESPACE_DNS, str(number))),
            task_name=task,
            task_args=args,
            task_kwargs="{}",
            status=state,
            worker="web1@tea-shop",
            queue=queue,
            result=error if state == states.FAILURE else value,
            traceback=TRACEBACK if state == states.FAILURE else None,
            runtime=runtime,
            root_id=str(uuid5(NAMESPACE_DNS, "0")),
            date_created=created,
            date_started=created,
            date_done=created + timedelta(seconds=runtime) if runtime and state in states.READY_STATES else None,
        )


def _workers() -> None:
    now = clock.now()
    for name, ago, active, stopped in (("web1@tea-shop", 2, 3, None), ("web2@tea-shop", 140, 1, None), ("old@tea-shop", 900, 0, now)):
        Worker.objects.create(
            instance=name,
            name=name,
            host="tea-shop",
            pid=4711,
            pool="prefork",
            concurrency=4,
            queues=["default", "mail"],
            active=active,
            processed=18231,
            version="0.1.0",
            started_at=now - timedelta(hours=7, minutes=12),
            heartbeat_at=now - timedelta(seconds=ago),
            stopped_at=stopped,
        )


def _dead(task: str, reason: str, body: bytes) -> DeadMessage:
    envelope = Envelope(
        body=body,
        content_type="application/json",
        content_encoding="utf-8",
        headers={"lang": "py", "task": task, "id": "9c2e64d1-77aa-4b0c-8a55-d1e0f4b29c10", "retries": 0},
        properties={"delivery_mode": 2},
        queue="default",
    )
    return DeadMessage(envelope=envelope, reason=reason, detail=f"{reason}: {task}", deliveries=3, worker="web1@tea-shop")
