"""Revoked stamps: look, add, and delete to let their tasks run again."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_tasks.admin.display import moment, mono
from django_tasks.admin.operating import OperatorAdmin
from django_tasks.exceptions import DecodeError
from django_tasks.models import RevokedStamp
from django_tasks.operations.calls import revoke_stamp
from django_tasks.serializers import dumps_json, loads_json


class RevokedStampForm(forms.ModelForm):  # type: ignore[type-arg]  # generic for type checkers only
    """A stamp to revoke."""

    class Meta:
        model = RevokedStamp
        fields = ("name", "value", "terminate")
        widgets = {"value": forms.TextInput}
        help_texts = {
            "value": gettext_lazy('One value. What is JSON is read as JSON: 17 is the number, "17" the text; anything else is a text.')
        }

    def clean_value(self) -> str:
        """Return the value as JSON."""
        text: str = self.cleaned_data["value"]
        try:
            value = loads_json(text)
        except DecodeError:
            value = text
        if value is None:
            raise forms.ValidationError(_("null is no value of a stamp."))
        return dumps_json(value)


@admin.register(RevokedStamp)
class RevokedStampAdmin(OperatorAdmin[RevokedStamp]):
    """Which stamps keep their tasks from running, and since when."""

    form = RevokedStampForm
    list_display = ("name", "shown", "terminate", "since", "revoked_by")
    search_fields = ("name", "value")
    ordering = ("-id",)

    @admin.display(description=gettext_lazy("value"), ordering="value")
    def shown(self, row: RevokedStamp) -> str:
        """The value, as JSON."""
        return mono(row.value)

    @admin.display(description=gettext_lazy("revoked at"), ordering="revoked_at")
    def since(self, row: RevokedStamp) -> str:
        """When it was revoked, to the second."""
        return moment(row.revoked_at)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """These rows are written by people, too."""
        return self.may(request, "add_revokedstamp")

    def get_fields(self, request: HttpRequest, obj: RevokedStamp | None = None) -> tuple[str, ...]:
        """Ask for what makes a revocation; show all that is known of one."""
        return ("name", "value", "terminate") if obj is None else ("name", "shown", "terminate", "since", "revoked_by")

    def get_readonly_fields(self, request: HttpRequest, obj: RevokedStamp | None = None) -> tuple[str, ...]:
        """Nothing is changed."""
        return () if obj is None else ("shown", "since")

    def save_model(self, request: HttpRequest, obj: RevokedStamp, form: Any, change: bool) -> None:
        """Revoke the stamp, in the place of an earlier revocation of the same."""
        obj.pk = revoke_stamp(obj.name, loads_json(obj.value), by=request.user.get_username(), terminate=obj.terminate)
