"""Receiving as a worker does, and connections that break."""

import socket

from django_tasks import clock
from django_tasks.brokers.broker import Consumer
from django_tasks.exceptions import OperationalError
from django_tasks.messages import Delivery
from django_tasks.testing.broker_probes import BrokerProbes
from tests.processes import DEADLINE

consuming = BrokerProbes().consuming


def cut(consumer: Consumer) -> None:
    consumer._connection.transport.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[attr-defined]


def arrivals(consumer: Consumer, limit: int = 10) -> list[Delivery]:
    """Receive as the worker does: an error is followed by another try."""
    deadline = clock.monotonic() + DEADLINE
    while clock.monotonic() < deadline:
        try:
            if deliveries := consumer.receive(limit, 1):
                return deliveries
        except OperationalError:
            continue
    return []
