"""What only Amazon SQS has: receive counts, and visibility that can be extended."""

from typing import Any, Final

from django_tasks.conf import settings

#: Most messages that SQS returns at once.
LARGEST_ANSWER: Final = 10
#: kombu's own default, in seconds.
_VISIBILITY_TIMEOUT: Final = 1800


def visibility_timeout() -> float:
    """Seconds for which a message that was received is invisible to others."""
    given = settings.BROKER_TRANSPORT_OPTIONS.get("visibility_timeout")
    return float(_VISIBILITY_TIMEOUT if given is None else given)


def receive_count(message: Any) -> int:
    """How often SQS has handed out this message, this time included."""
    attributes = ((message.delivery_info or {}).get("sqs_message") or {}).get("Attributes") or {}
    return int(attributes.get("ApproximateReceiveCount") or 1)


def keep(channel: Any, message: Any, seconds: float) -> None:
    """Keep a message invisible for so many seconds from now on."""
    info = message.delivery_info
    client = channel.sqs(queue=channel.canonical_queue_name(info["routing_key"]))
    client.change_message_visibility(
        QueueUrl=info["sqs_queue"], ReceiptHandle=info["sqs_message"]["ReceiptHandle"], VisibilityTimeout=int(seconds)
    )
