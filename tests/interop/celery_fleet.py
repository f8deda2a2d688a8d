"""A Celery app whose tasks have the names of ours, on the broker that the environment names."""

import json
import os
import time

from celery import Celery, shared_task

app = Celery(
    "fleet",
    broker=os.environ["FLEET_BROKER_URL"],
    backend=os.environ["FLEET_RESULT_BACKEND"],
    set_as_current=True,
)
app.conf.update(
    task_default_queue=os.environ["FLEET_QUEUE"],
    broker_transport_options=json.loads(os.environ.get("FLEET_TRANSPORT_OPTIONS", "{}")),
    result_backend_transport_options=json.loads(os.environ.get("FLEET_RESULT_OPTIONS", "{}")),
    broker_connection_retry_on_startup=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    # More than one: Celery's worker sends an acknowledgement with the next thing that it hears, and would hear nothing more.
    worker_prefetch_multiplier=int(os.environ.get("FLEET_PREFETCH", "4")),
    worker_hijack_root_logger=False,
)


@shared_task(name="tests.sampleapp.tasks.add")
def add(x, y):
    """Return the sum."""
    return x + y


@shared_task(name="tests.sampleapp.tasks.leave_line")
def leave_line(key, seconds=0.0):
    """Write the key into the file that EFFECTS names, then take some time."""
    log = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(log, f"{key} celery\n".encode())
    finally:
        os.close(log)
    time.sleep(seconds)
    return key


@shared_task(name="tests.sampleapp.tasks.fail")
def fail(text="broken"):
    """Raise ValueError."""
    raise ValueError(text)


@shared_task(name="fleet.who")
def who():
    """Known to Celery's workers only."""
    return "celery"
