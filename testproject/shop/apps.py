"""The tea shop as a Django app."""

from django.apps import AppConfig


class ShopConfig(AppConfig):
    """Connects the signal receivers."""

    name = "shop"
    verbose_name = "Tea shop"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Import what connects itself."""
        from shop import receivers  # noqa: F401
