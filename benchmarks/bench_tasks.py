"""Tasks of the scripts in this folder. An effect is eight bytes at the end of a file: one write, so a kill can't halve it."""

import os
import random
import struct
import time

from django_tasks import shared_task

RECORD = struct.Struct("<q")


@shared_task
def noop(i):
    """Do nothing."""
    return i


@shared_task
def effect(i, milliseconds):
    """Take a while, then leave the number in the file that EFFECTS names."""
    time.sleep(random.uniform(0, 2 * milliseconds) / 1000)
    log = os.open(os.environ["EFFECTS"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(log, RECORD.pack(i))
    finally:
        os.close(log)
    return i
