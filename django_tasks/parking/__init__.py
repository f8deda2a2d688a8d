"""The parking lot: rows of the database broker in which messages wait for another broker.

Two kinds of message lie here: those that their broker can't delay for as long as they ask, until it can take them, and those
of the outbox (TASK_PUBLISH_OUTBOX), which are part of the sender's transaction and leave after its commit. A Forwarder in each
worker node hands them over. They all lie in one reserved queue, ``django_tasks.parked``; where they are really going is in the
row's properties.
"""

from django_tasks.parking.forwarder import Forwarder
from django_tasks.parking.lot import due_at_once, needed, open_lot, park, reach, send, waiting

__all__ = ["Forwarder", "due_at_once", "needed", "open_lot", "park", "reach", "send", "waiting"]
