"""The Django application."""

import logging
from collections.abc import Mapping
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from aftercommit.printable import make_readable
from aftercommit.windows.checks import register_checks
from aftercommit.worker.processes.handover import remember

# As settings may name it: today, in 0.1.0, and by its module.
CELERY_BACKENDS = {
    "aftercommit.CeleryBackend",
    "aftercommit.celery_backend.CeleryBackend",
    "aftercommit.relay.celery.backend.CeleryBackend",
}


class AftercommitConfig(AppConfig):
    """Tables, checks and log of aftercommit."""

    name = "aftercommit"
    verbose_name = _("Background jobs")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the checks, prepare the log; capture the messages that are to be relayed."""
        register_checks()
        remember()
        make_readable(logging.getLogger("aftercommit"))
        # Not imported otherwise: it needs django.tasks, whose absence a check explains.
        tasks = [*_dict(getattr(settings, "TASKS", None)).values()]
        if any(_dict(_dict(backend).get("OPTIONS")).get("relay") for backend in tasks):
            import_string("aftercommit.relay.publish.install")()
        if any(_dict(backend).get("BACKEND") in CELERY_BACKENDS for backend in tasks):
            # A worker of Celery looks for the task that runs ours.
            import_string("aftercommit.relay.celery.consumer.run")


def _dict(given: Any) -> Mapping[str, Any]:
    """Return a setting, or nothing if it is no dict: whoever uses it says so."""
    return given if isinstance(given, Mapping) else {}
