"""The fields by which queued messages and dead letters show what is in them."""

from typing import Any, Final

from django.contrib import admin
from django.utils.translation import gettext_lazy as _

from django_tasks.admin.display import EMPTY, badge, code
from django_tasks.models import DeadLetter, Message
from django_tasks.operations.contents import Contents, pretty, read

#: The fields that show a message as it is stored.
STORED_FIELDS: Final = ("shown_headers", "shown_properties", "form_of_body", "raw")


def contents_of(row: Message | DeadLetter) -> Contents:
    """Decode a row once, however many fields ask."""
    kept: Any = row.__dict__.get("_contents")
    if kept is None:
        kept = row.__dict__["_contents"] = read(row)
    found: Contents = kept
    return found


class ContentFields:
    """Mixed into the admins of rows that hold a message."""

    @admin.display(description=_("problem"))
    def problem(self, row: Message | DeadLetter) -> str:
        """Why the message can't be decoded."""
        error = contents_of(row).error
        return code(error, wrap=True) if error else badge("readable", str(_("none, it can be decoded")), "good")

    @admin.display(description=_("positional arguments"))
    def args(self, row: Message | DeadLetter) -> str:
        """The decoded positional arguments."""
        message = contents_of(row).message
        return code(pretty(list(message.args))) if message else EMPTY

    @admin.display(description=_("named arguments"))
    def kwargs(self, row: Message | DeadLetter) -> str:
        """The decoded named arguments."""
        message = contents_of(row).message
        return code(pretty(dict(message.kwargs))) if message else EMPTY

    @admin.display(description=_("what follows"))
    def workflow(self, row: Message | DeadLetter) -> str:
        """Callbacks, errbacks, the rest of a chain, the chord."""
        message = contents_of(row).message
        followers = {name: value for name, value in (message.embed if message else {}).items() if value}
        return code(pretty(followers)) if followers else EMPTY

    @admin.display(description=_("headers"))
    def shown_headers(self, row: Message | DeadLetter) -> str:
        """The headers, or their text where that is no JSON."""
        found = contents_of(row).headers
        return code(pretty(dict(found)) if found else row.headers)

    @admin.display(description=_("properties"))
    def shown_properties(self, row: Message | DeadLetter) -> str:
        """The properties, or their text where that is no JSON."""
        found = contents_of(row).properties
        return code(pretty(dict(found)) if found else row.properties)

    @admin.display(description=_("form"))
    def form_of_body(self, row: Message | DeadLetter) -> str:
        """Content type, encoding and size of the body."""
        return f"{row.content_type}, {row.content_encoding}, {contents_of(row).size} bytes"

    @admin.display(description=_("body"))
    def raw(self, row: Message | DeadLetter) -> str:
        """The beginning of the body, as text or hexadecimal."""
        return code(contents_of(row).raw)
