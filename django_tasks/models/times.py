"""A column of times that mean the same under every setting."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

if TYPE_CHECKING:
    _Base = models.DateTimeField[Any, Any]
else:
    _Base = models.DateTimeField


def aware(moment: datetime) -> datetime:
    """Return a time that a model gave, in UTC: with USE_TZ off models give local times without a zone."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.get_default_timezone())
    return moment.astimezone(UTC)


def as_models_give(moment: datetime) -> datetime:
    """Return a time as a model would give it: aware, or local and naive where USE_TZ is off."""
    return aware(moment) if settings.USE_TZ else moment.astimezone(timezone.get_default_timezone()).replace(tzinfo=None)


class UTCDateTimeField(_Base):
    """A DateTimeField that lies in UTC in the database, whatever USE_TZ and the database's TIME_ZONE say.

    SQL that is written by hand compares and writes these columns, and of local times one hour comes twice a year. In Python it is
    like Django's: aware, or with USE_TZ off local and naive. Aware times are taken in both cases. Migrations see a DateTimeField.
    """

    def deconstruct(self) -> Any:
        """Describe it as what it is for the database."""
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.DateTimeField", args, kwargs

    def from_db_value(self, value: datetime | None, expression: Any, connection: BaseDatabaseWrapper) -> datetime | None:
        """Read the column: databases without zones have given it the zone that their settings name."""
        if value is None:
            return None
        if connection.vendor != "postgresql":
            value = value.replace(tzinfo=UTC)
        return as_models_give(aware(value))

    def get_db_prep_value(self, value: Any, connection: BaseDatabaseWrapper, prepared: bool = False) -> Any:
        """Write a time."""
        if not prepared:
            value = self.get_prep_value(value)
        if not isinstance(value, datetime):
            return super().get_db_prep_value(value, connection, prepared=True)
        moment = aware(value)
        if connection.vendor == "postgresql":
            return moment
        return connection.ops.adapt_datetimefield_value(moment.replace(tzinfo=None))
