"""A mail server that refuses now and then, as they do. It keeps what it takes in the journal."""

import random

from shop.models import JournalEntry


class MailServerBusy(ConnectionError):
    """Try again later."""


def send(to: str, subject: str) -> None:
    """Deliver a mail, or raise MailServerBusy one time in three."""
    if random.random() < 0.34:
        raise MailServerBusy(f"421 {to}: too many connections")
    JournalEntry.objects.create(text=f"mail to {to}: {subject}")
