"""What a type checker sees of messages."""

from typing import assert_type

from django_tasks.messages import Disposition, Envelope, TaskMessage

message = TaskMessage(id="1", task="shop.tasks.add", args=(2, 3))
assert_type(message.retries, int)
assert_type(message.queue, str)
assert_type(Disposition("ack"), Disposition)

Envelope(body="text", content_type="", content_encoding="", headers={}, properties={}, queue="q")  # type: ignore[arg-type]
message.retries = 2  # type: ignore[misc]
