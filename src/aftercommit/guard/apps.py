"""The Django application of the guard."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class GuardConfig(AppConfig):
    """Watches dispatches in this process, as ``AFTERCOMMIT_GUARD`` says."""

    name = "aftercommit.guard"
    label = "aftercommit_guard"
    verbose_name = _("Dispatches inside transactions")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the check of the settings, and watch if they are right."""
        from aftercommit.guard.checks import register_checks  # noqa: PLC0415 - apps are ready now
        from aftercommit.guard.setup import install_from_settings  # noqa: PLC0415

        register_checks()
        install_from_settings()
