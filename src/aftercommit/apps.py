"""The Django application."""

import logging
import sys
from collections.abc import Mapping
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.management import ManagementUtility
from django.utils.module_loading import import_string
from django.utils.translation import gettext_lazy as _

from aftercommit import events
from aftercommit.errors import ConfigurationError
from aftercommit.printable import make_readable
from aftercommit.under_test import announce_test_databases
from aftercommit.windows.checks import register_checks
from aftercommit.worker.processes.handover import remember

logger = logging.getLogger("aftercommit")
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
        events.waiting_ended.connect(_send_finished, dispatch_uid="aftercommit.finished")
        remember()
        announce_test_databases(self)
        make_readable(logging.getLogger("aftercommit"))
        # Not imported otherwise: it needs django.tasks, whose absence a check explains.
        tasks = [*_dict(getattr(settings, "TASKS", None)).values()]
        if any(_dict(_dict(backend).get("OPTIONS")).get("relay") for backend in tasks):
            _install_relay()
        if any(_dict(backend).get("BACKEND") in CELERY_BACKENDS for backend in tasks):
            # A worker of Celery looks for the task that runs ours.
            import_string("aftercommit.relay.celery.consumer.run")


def _install_relay() -> None:
    """Capture the messages of other libraries.

    A mistake in the options is said by a system check where a command runs those: see E015. Any
    other process does not start, because it would send messages past the outbox.
    """
    try:
        import_string("aftercommit.relay.publish.install")()
    except ConfigurationError as error:
        if not _is_a_command():
            raise
        # Not every command runs the checks.
        logger.error("No message is captured: %s", error)


def _is_a_command() -> bool:
    """Return whether ``manage.py`` or ``django-admin`` has called ``django.setup()``."""
    frame = sys._getframe()
    while frame is not None and frame.f_code is not ManagementUtility.execute.__code__:
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None


def _send_finished(using: str, ended: Any, **_: Any) -> None:
    """Send Django's signal for jobs that have ended because of another one."""
    store = import_string("aftercommit.store.store_for")(using)
    import_string("aftercommit.enqueue.finished.send_finished")(store, ended)


def _dict(given: Any) -> Mapping[str, Any]:
    """Return a setting, or nothing if it is no dict: whoever uses it says so."""
    return given if isinstance(given, Mapping) else {}
