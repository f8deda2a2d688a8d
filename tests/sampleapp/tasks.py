"""Tasks for the tests: each does one thing that a worker must cope with."""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time

from asgiref.sync import sync_to_async
from django.db import connections

from django_tasks import shared_task
from tests.sampleapp.models import Effect


@shared_task
def add(x, y):
    """Return the sum."""
    return x + y


@shared_task
def total(numbers):
    """Return the sum of a list."""
    return sum(numbers)


@shared_task
def record(key):
    """Leave a row behind."""
    Effect.objects.create(key=key, pid=os.getpid())
    return key


@shared_task
async def record_async(key):
    """Leave a row behind, from a coroutine."""
    await Effect.objects.acreate(key=key, pid=os.getpid())
    return key


@shared_task
def fail(text="broken"):
    """Raise ValueError."""
    raise ValueError(text)


@shared_task
def nap(seconds, key=None):
    """Take some time, then leave a row behind if a key is given."""
    time.sleep(seconds)
    if key is not None:
        Effect.objects.create(key=key, pid=os.getpid())
    return seconds


@shared_task
async def nap_async(seconds):
    """Take some time without holding a thread."""
    await asyncio.sleep(seconds)
    return seconds


@shared_task
def stuck():
    """Never return."""
    threading.Event().wait()


@shared_task
def die(key=None, signum=signal.SIGKILL):
    """Kill the process that runs this."""
    if key is not None:
        Effect.objects.create(key=key, pid=os.getpid())
    os.kill(os.getpid(), signum)
    time.sleep(60)


@shared_task(bind=True, max_retries=3, default_retry_delay=0)
def flaky(self, key, failures):
    """Fail this often, then succeed; a row for each try."""
    Effect.objects.create(key=key, pid=os.getpid())
    if self.request.retries < failures:
        raise self.retry(exc=ConnectionError(f"try {self.request.retries}"))
    return self.request.retries


@shared_task
def unserializable():
    """Return what JSON can't say."""
    return object()


@shared_task
def whoami():
    """Return the process id."""
    return os.getpid()


@shared_task
def busy(seconds):
    """Compute for some time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return seconds


@shared_task(acks_late=False)
def deafen():
    """Let this process's consumer thread hang in its next call of the broker, for ever.

    Its message is acknowledged already: the thread may hang before it could do so, and the next process would hang, too.
    """
    thread = next(thread for thread in threading.enumerate() if thread.name == "django_tasks-consumer")

    def hang(limit, timeout):
        Effect.objects.create(key="deaf", pid=os.getpid())
        threading.Event().wait()

    thread._consumer.receive = hang


@shared_task
def moment():
    """Return the time at which this runs (seconds since 1970)."""
    return time.time()


@shared_task(acks_late=False)
def stuck_early(key=None):
    """Leave a row behind, and never return; its message is acknowledged already."""
    if key is not None:
        Effect.objects.create(key=key, pid=os.getpid())
    threading.Event().wait()


@shared_task(acks_late=False)
def die_early(key):
    """Kill the process that runs this; its message is acknowledged already."""
    Effect.objects.create(key=key, pid=os.getpid())
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


@shared_task
def leave_line(key, seconds=0.0):
    """Write the key into the file that EFFECTS names, then take some time: one write, so that a kill can't halve it."""
    log = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(log, f"{key}\n".encode())
    finally:
        os.close(log)
    time.sleep(seconds)
    return key


@shared_task
def length(text):
    """Return how long the text is."""
    return len(text)


@shared_task(bind=True)
def halfway(self, rows):
    """Tell monitors how far it has come."""
    self.send_event("task-halfway", rows=rows)
    return rows


@shared_task
def leave(status):
    """End the process that runs this."""
    os._exit(status)


def _fork():
    # Both processes go on where the call was: the child must end there, and leave everything else to its parent. SQLite itself
    # can't be used in a child of a process with threads.
    server = connections["postgres"] if "postgres" in connections else None  # noqa: SIM401  it has no get()
    mine = server and backend_pid(server)
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), server and backend_pid(server) == mine
    if server and backend_pid(server) == mine:
        sys.exit(5)
    return "nobody's result"


def backend_pid(server):
    """Ask which process of the server's is at the other end."""
    with server.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


@shared_task
def fork():
    """Fork a process that asks the database and returns, too; return its exit status, and whether our connection is as it was."""
    return _fork()


@shared_task
async def fork_async():
    """Do the same where synchronous code of coroutines runs."""
    return await sync_to_async(_fork)()


@shared_task
async def fork_loop():
    """Fork on the event loop, where the child returns; return its exit status."""
    child = os.fork()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) if child else None  # noqa: ASYNC222  it ends at once


@shared_task
def terminate_child():
    """Start a process that sleeps, and terminate it; return its exit code."""
    child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    child.start()
    child.terminate()
    child.join(20)
    return child.exitcode


@shared_task
def clean_up(key):
    """Never return; leave a row behind when told to end."""
    try:
        Effect.objects.create(key=f"{key} runs", pid=os.getpid())
        threading.Event().wait()
    finally:
        Effect.objects.create(key=f"{key} is clean", pid=os.getpid())


@shared_task
async def clean_up_async(key):
    """Do the same in a coroutine."""
    try:
        await Effect.objects.acreate(key=f"{key} runs", pid=os.getpid())
        await asyncio.Event().wait()
    finally:
        await Effect.objects.acreate(key=f"{key} is clean", pid=os.getpid())
