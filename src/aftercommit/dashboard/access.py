"""Who may see and do what: staff, by permissions of Django's own system."""

from typing import Any

from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase
from django.urls import NoReverseMatch, reverse

PERMISSIONS = {
    "view": "aftercommit.view_job",
    "arguments": "aftercommit.view_job_arguments",
    "retry": "aftercommit.retry_job",
    "cancel": "aftercommit.cancel_job",
    "delete": "aftercommit.delete_job",
    "enqueue": "aftercommit.enqueue_job",
    "pause": "aftercommit.pause_rule",
    "schedules": "aftercommit.change_schedule",
    "add_schedule": "aftercommit.add_schedule",
    "delete_schedule": "aftercommit.delete_schedule",
    "run": "aftercommit.run_schedule",
    "groups": "aftercommit.cancel_group",
    "audit": "aftercommit.view_auditrecord",
    "findings": "aftercommit_guard.view_storedfinding",
}


class May:
    """What a user who may view the pages may do: ``may.retry``, or ``may["retry"]``."""

    def __init__(self, user: Any) -> None:
        self._user = user

    def __getitem__(self, name: str) -> bool:
        return bool(self._user.has_perm(PERMISSIONS[name]))

    def __getattr__(self, name: str) -> bool:
        if name not in PERMISSIONS:
            raise AttributeError(name)
        return self[name]


def refusal(request: HttpRequest, needs: tuple[str, ...]) -> HttpResponseBase | None:
    """Return the way to the login for who is not logged in as staff; None: come in.

    Raises ``PermissionDenied`` for staff without one of the permissions.
    """
    user: Any = getattr(request, "user", None)
    if user is None or not user.is_authenticated:
        return redirect_to_login(request.get_full_path(), _login_page())
    if not (user.is_active and user.is_staff):
        raise PermissionDenied
    may = May(user)
    if not all(may[name] for name in needs):
        raise PermissionDenied
    return None


def _login_page() -> str | None:
    """Return the login of the admin where there is one, else None for ``LOGIN_URL``."""
    try:
        return reverse("admin:login")
    except NoReverseMatch:
        return None
