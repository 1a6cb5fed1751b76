"""A request for a page of the dashboard: who asks, about which database, and what it answers."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.contrib import messages
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext_lazy as _
from django.views.decorators.csrf import csrf_protect

from aftercommit.dashboard.access import May, refusal
from aftercommit.dashboard.policy import SCRIPT, STYLE, protect
from aftercommit.printable import one_line
from aftercommit.store import store_for
from aftercommit.windows.databases import databases

if TYPE_CHECKING:
    from aftercommit.store.base import Store

READ, WRITE = ("GET", "HEAD"), ("POST",)
GUARD = "aftercommit.guard"  # the app whose findings one page shows
# The pages of the navigation: the name of the address, what is shown, the permission.
TABS = (
    ("overview", _("Overview"), "view"),
    ("jobs", _("Jobs"), "view"),
    ("tasks", _("Tasks"), "view"),
    ("queues", _("Queues"), "view"),
    ("schedules", _("Schedules"), "view"),
    ("groups", _("Groups"), "view"),
    ("workers", _("Workers"), "view"),
    ("messages", _("Messages"), "view"),
    ("races", _("Races"), "findings"),
    ("audit", _("Audit"), "audit"),
)


@dataclass(frozen=True, slots=True)
class Visit:
    """One request."""

    request: HttpRequest
    using: str
    may: May

    @property
    def store(self) -> "Store":
        """The store of the database that the page is about."""
        return store_for(self.using)

    @property
    def by(self) -> str:
        """The name of the user, on one line."""
        return one_line(str(self.request.user))

    def url(self, name: str, **given: Any) -> str:
        """Return the address of another page about the same database."""
        return address(self.request, name, using=self.using, **given)

    def render(self, page: str, *, tab: str = "", **context: Any) -> HttpResponse:
        """Return a page; ``tab``: which one of the navigation it belongs to."""
        tabs = [
            (self.url(name), title, name == tab)
            for name, title, needs in TABS
            if self.may[needs] and (name != "races" or apps.is_installed(GUARD))
        ]
        several = databases()
        return render(
            self.request,
            f"aftercommit/dashboard/{page}.html",
            {
                "visit": self,
                "may": self.may,
                "using": self.using,
                "tabs": tabs,
                "databases": [
                    (alias, address(self.request, tab or "overview", using=alias))
                    for alias in (several if len(several) > 1 else ())
                ],
                "style": STYLE,
                "script": SCRIPT,
                "find_url": self.url("find"),
                "said": list(messages.get_messages(self.request)),
                **context,
            },
        )

    def say(self, text: str, *, well: bool = True) -> None:
        """Let the next page show a sentence."""
        level = messages.SUCCESS if well else messages.WARNING
        messages.add_message(self.request, level, text, fail_silently=True)

    def back(self, otherwise: str) -> HttpResponseRedirect:
        """Go on to the page that the form names, if it is one of this site."""
        wanted = self.request.POST.get("next", "")
        is_ours = url_has_allowed_host_and_scheme(
            wanted, {self.request.get_host()}, require_https=self.request.is_secure()
        )
        return HttpResponseRedirect(wanted if wanted and is_ours else otherwise)

    def record(self, action: str, *, subject: str = "", **given: Any) -> int:
        """Write to the audit what the user does; return the number of the record."""
        return self.store.record_action(
            action, by=self.by, user_id=str(self.request.user.pk), subject=subject, **given
        )


View = Callable[..., HttpResponseBase]


def page(*needs: str, methods: tuple[str, ...] = READ) -> Callable[[View], View]:
    """Make a view of a function of a visit: for staff with these permissions."""

    def decorate(view: View) -> View:
        @wraps(view)
        def protected(request: HttpRequest, using: str, **given: Any) -> HttpResponseBase:
            answer = refusal(request, ("view", *needs))
            if answer is not None:
                return answer
            if request.method not in methods:
                return HttpResponseNotAllowed(methods)
            if using not in databases():
                raise Http404(f"No jobs are kept in the database {using!r}.")
            return protect(view(Visit(request, using, May(request.user)), **given))

        return csrf_protect(protected)

    return decorate


def address(request: HttpRequest, name: str, **given: Any) -> str:
    """Return the address of a page, also where the project includes the dashboard twice."""
    match = request.resolver_match
    space = match.namespace if match is not None else "aftercommit_dashboard"
    return reverse(f"{space}:{name}", kwargs=given)
