"""Every feature of the task queue, each by something that a tea shop would want done."""

import asyncio
import itertools
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from django_tasks import Task, chain, group, shared_task
from django_tasks.log import get_task_logger
from django_tasks.result import AsyncResult
from shop import logs, mailbox, report
from shop.models import JournalEntry, Order, Snapshot

logger = get_task_logger(__name__)
LOGS = Path(settings.BASE_DIR) / "data" / "access"


# ---- a workflow: many files at the same time, then one report


@shared_task(bind=True, soft_time_limit=60, time_limit=90, resultrepr_maxsize=60)
def analyse_log(self: Any, name: str) -> dict[str, Any]:
    """Analyse one access log; tell how far it is by a state of its own."""
    return logs.analyse(LOGS / name, progress=lambda percent: self.update_state(state="PROGRESS", meta={"percent": percent}))


@shared_task(resultrepr_maxsize=60)
def merge_hours(hours: list[dict[str, Any]]) -> dict[str, Any]:
    """Put what was found in all logs together."""
    return logs.merge(hours)


@shared_task(acks_late=True, max_retries=2, autoretry_for=(OSError,), retry_backoff=True)
def write_report(day: dict[str, Any]) -> dict[str, Any]:
    """Write the report and return its place and what is most worth knowing."""
    path = report.write(day, Path(settings.OUTPUT_DIR))
    return {"path": str(path), **report.summary(day)}


def analyse_day() -> AsyncResult:
    """Start the workflow; return the report's result, whose parents are the merge and the group of files."""
    names = sorted(path.name for path in LOGS.glob("*.log"))
    workflow = chain(group(analyse_log.s(name) for name in names), merge_hours.s(), write_report.s())
    return workflow.apply_async()


# ---- an order: transaction, queues, priorities, retries, hooks, async


class Bookkeeping(Task):
    """A base class for tasks whose end belongs into the journal."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Note what was done."""
        JournalEntry.objects.create(text=f"{self.name}{tuple(args)}: {retval}"[:200])

    def on_failure(self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Note what went wrong."""
        JournalEntry.objects.create(text=f"{self.name}{tuple(args)} failed: {exc}"[:200])


@transaction.atomic
def place_order(customer: str, tea: str, grams: int = 100, *, express: bool = False) -> Order:
    """Store an order and send its tasks: with the transaction, or not at all."""
    order = Order.objects.create(customer=customer, tea=tea, grams=grams, express=express)
    mail_confirmation.delay(order.pk)
    pack.apply_async((order.pk,), priority=9 if express else 0, link=mail_tracking.si(order.pk))
    ask_for_review.apply_async((order.pk,), countdown=20, expires=3600)
    return order


@shared_task(autoretry_for=(mailbox.MailServerBusy,), retry_backoff=1, retry_backoff_max=8, max_retries=8)
def mail_confirmation(order_id: int) -> str:
    """Confirm an order; tried again, ever later, while the mail server is busy. Goes to the queue "mail"."""
    order = Order.objects.get(pk=order_id)
    mailbox.send(order.customer, f"We have your order of {order.tea}")
    Order.objects.filter(pk=order_id).update(confirmed_at=timezone.now())
    return order.customer


@shared_task(base=Bookkeeping)
def pack(order_id: int) -> str:
    """Pack an order; express orders overtake the others."""
    order = Order.objects.get(pk=order_id)
    Order.objects.filter(pk=order_id).update(packed_at=timezone.now())
    return str(order)


@shared_task(bind=True, max_retries=5)
def mail_tracking(self: Any, order_id: int) -> None:
    """Send the tracking number: the link of ``pack``, with a retry of its own making."""
    try:
        mailbox.send(Order.objects.get(pk=order_id).customer, "Your tea is on its way")
    except mailbox.MailServerBusy as busy:
        raise self.retry(exc=busy, countdown=2) from busy


@shared_task(ignore_result=True)
def ask_for_review(order_id: int) -> None:
    """Wait for its time in the queue, not in a worker."""
    JournalEntry.objects.create(text=f"asked for a review of order {order_id}")


@shared_task
async def check_suppliers(count: int = 5) -> dict[str, int]:
    """Ask all suppliers at the same time: an ``async def`` is a task like any other."""

    async def stock(number: int) -> int:
        await asyncio.sleep(0.2)
        return 100 * number

    answers = await asyncio.gather(*(stock(number) for number in range(1, count + 1)))
    return {f"supplier {number}": grams for number, grams in enumerate(answers, 1)}


@shared_task(throws=(KeyError,))
def import_prices() -> None:
    """Fail: the supplier's price list lacks a column. Its traceback is in the admin."""
    rows = [{"tea": "assam"}, {"tea": "sencha", "price": 4}]
    for row in itertools.islice(rows, 2):
        logger.info("%s: %s", row["tea"], row["price"])


# ---- periodic


@shared_task
def take_snapshot() -> int:
    """Count the orders: every few seconds, by a schedule that the admin shows."""
    orders = Order.objects.count()
    Snapshot.objects.create(orders=orders, packed=Order.objects.filter(packed_at__isnull=False).count())
    return orders


@shared_task(ignore_result=True)
def sweep_snapshots(keep: int = 200) -> None:
    """Delete old snapshots: every half minute, by BEAT_SCHEDULE in the settings."""
    newest = Snapshot.objects.order_by("-id").values_list("id", flat=True)[:keep]
    Snapshot.objects.exclude(id__in=list(newest)).delete()
