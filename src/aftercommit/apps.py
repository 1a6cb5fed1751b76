"""The Django application."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _

from aftercommit import relay
from aftercommit.checks import register_checks


class AftercommitConfig(AppConfig):
    """Tables, checks and log of aftercommit."""

    name = "aftercommit"
    verbose_name = _("Background jobs")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the system checks; capture the messages that are to be relayed."""
        register_checks()
        relay.install()
