"""The form that asks for the arguments of a call that is to be made again."""

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from django_tasks.operations.calls import BadArguments, parse_arguments


class ArgumentsField(forms.CharField):
    """A JSON array or object, typed by a person."""

    widget = forms.Textarea

    def __init__(self, *, kind: type, **options: Any) -> None:
        super().__init__(**options)
        self.kind = kind

    def clean(self, value: Any) -> Any:
        """Return the parsed value, or say where the mistake is."""
        try:
            return parse_arguments(super().clean(value), self.kind, _("This"))
        except BadArguments as error:
            raise forms.ValidationError(str(error)) from error


class RunAgainForm(forms.Form):
    """The arguments of a call that is to be made again."""

    args = ArgumentsField(label=gettext_lazy("Positional arguments"), kind=list, initial="[]")
    kwargs = ArgumentsField(label=gettext_lazy("Named arguments"), kind=dict, initial="{}")
    queue = forms.CharField(
        label=gettext_lazy("Queue"), max_length=255, required=False, help_text=gettext_lazy("Empty: where it is routed.")
    )
