"""What a worker of another broker must know of the messages that wait in the database."""

from django_tasks import clock
from django_tasks.conf import settings
from django_tasks.dbaccess import reaching
from django_tasks.messages import PARKED
from django_tasks.models import Message, MessageState


def parked_messages_are_due() -> bool:
    """Whether messages are parked that are to be forwarded now, those in a forwarder's hands included.

    Raises OperationalError when the database can't be reached.
    """
    alias = settings.TASK_OUTBOX_DATABASE
    now = clock.now()
    with reaching(alias, "Looking for parked messages"):
        parked = Message.objects.using(alias).filter(queue=PARKED)
        return parked.exclude(state=MessageState.DELAYED).exists() or parked.filter(state=MessageState.DELAYED, until__lte=now).exists()
