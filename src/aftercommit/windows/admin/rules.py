"""A page in Django's admin that pauses, resumes, limits and rates what workers run."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aftercommit import queues
from aftercommit.errors import ConfigurationError, NothingToLimit, NothingToPause
from aftercommit.models import Rule
from aftercommit.printable import one_line
from aftercommit.queues.pauses import LONGEST_NOTE
from aftercommit.values import QUEUE, TASK
from aftercommit.windows.databases import databases

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Rule]
else:
    Base = admin.ModelAdmin

TEMPLATE = "admin/aftercommit/rule/rules.html"
PERMISSION = "aftercommit.pause_rule"
BROKER = "broker"
PAUSE, RESUME, LIMIT, UNLIMIT = "pause", "resume", "limit", "unlimit"
RATE, UNRATE = "rate", "unrate"
LONGEST_RATE = 40
LONGEST_SHOWN = 255  # of what the history is about


class RuleForm(forms.Form):
    """What is to be done, and to what."""

    action = forms.ChoiceField(
        label=gettext_lazy("action"),
        choices=[
            (PAUSE, gettext_lazy("Pause")),
            (RESUME, gettext_lazy("Resume")),
            (LIMIT, gettext_lazy("Limit")),
            (UNLIMIT, gettext_lazy("Take the limit away")),
            (RATE, gettext_lazy("Set the rate")),
            (UNRATE, gettext_lazy("Take the rate away")),
        ],
    )
    kind = forms.ChoiceField(
        label=gettext_lazy("of"),
        choices=[
            (QUEUE, gettext_lazy("Queue")),
            (TASK, gettext_lazy("Task")),
            (BROKER, gettext_lazy("Messages for a broker")),
        ],
    )
    # As it is: a queue's name is not stripped anywhere else.
    name = forms.CharField(label=gettext_lazy("name"), max_length=255, strip=False)
    using = forms.ChoiceField(label=gettext_lazy("database"), required=False)
    why = forms.CharField(label=gettext_lazy("why"), max_length=LONGEST_NOTE, required=False)
    limit = forms.IntegerField(label=gettext_lazy("jobs at once"), min_value=1, required=False)
    rate = forms.CharField(
        label=gettext_lazy("starts, as 60/m"), max_length=LONGEST_RATE, required=False
    )
    burst = forms.IntegerField(label=gettext_lazy("burst"), min_value=1, required=False)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        using: Any = self.fields["using"]
        using.choices = [("", _("all")), *((alias, alias) for alias in databases())]

    def clean(self) -> dict[str, Any]:
        """Ask for the number or the rate where it is needed."""
        cleaned: dict[str, Any] = super().clean() or {}
        if cleaned.get("action") == LIMIT and cleaned.get("limit") is None:
            self.add_error("limit", _("Say how many jobs may run at once."))
        if cleaned.get("action") == RATE and not cleaned.get("rate"):
            self.add_error("rate", _("Say how many jobs may start in a time, as 60/m."))
        return cleaned


class Line(NamedTuple):
    """What is shown of a queue or a task, and what can be done."""

    using: str
    kind: str
    name: str
    pause: queues.Paused | None
    limit: queues.Limited | None
    rate: queues.Rated | None


@admin.register(Rule)
class RuleAdmin(Base):
    """The rules that operators have set; to change one has a permission of its own."""

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show what is paused, limited and rated; a POST changes it, and a GET nothing."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        if request.method == "POST" and not self._may_change(request):
            raise PermissionDenied
        form = RuleForm(request.POST if request.method == "POST" else None)
        if request.method == "POST" and form.is_valid() and self._carried_out(request, form):
            return HttpResponseRedirect(request.path)
        context = {
            **self.admin_site.each_context(request),
            "title": _("Queues and tasks"),
            "opts": self.opts,
            "form": form,
            "lines": list(_lines()),
            "may_change": self._may_change(request),
            **(extra_context or {}),
        }
        request.current_app = self.admin_site.name
        return TemplateResponse(request, TEMPLATE, context)

    def _carried_out(self, request: HttpRequest, form: RuleForm) -> bool:
        """Do it and say so; what cannot be done becomes an error of the form."""
        wanted = form.cleaned_data
        name = {wanted["kind"]: wanted["name"], "using": wanted["using"] or None}
        try:
            answer = _call(request, wanted)(**name)
        except (ConfigurationError, NothingToPause, NothingToLimit) as error:
            form.add_error(None, str(error))
            return False
        done = {
            PAUSE: _("The %(what)s is paused in the database %(using)s."),
            RESUME: _("The %(what)s is resumed in the database %(using)s."),
            LIMIT: _("The %(what)s is limited in the database %(using)s."),
            UNLIMIT: _("Code and settings limit the %(what)s in the database %(using)s."),
            RATE: _("The %(what)s has the rate in the database %(using)s."),
            UNRATE: _("Code and settings rate the %(what)s in the database %(using)s."),
        }[wanted["action"]]
        kind = TASK if wanted["kind"] == TASK else QUEUE  # a broker has two queues
        for alias, changed in answer.changed:
            what = f"{kind} {one_line(changed)}"
            text = done % {"what": what, "using": alias}
            self.message_user(request, text, messages.SUCCESS, fail_silently=True)
            _log(request, what, text)
        if not answer.changed:
            text = _("Nothing has changed: it was so already.")
            self.message_user(request, text, messages.WARNING, fail_silently=True)
        return True

    # ---- who --------------------------------------------------------------------

    def _may_change(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm(PERMISSION))

    def has_view_permission(self, request: HttpRequest, obj: Rule | None = None) -> bool:
        """Ask for the permission to view, or to pause."""
        return bool(request.user.has_perm("aftercommit.view_rule")) or self._may_change(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Return whether the page is listed."""
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: a rule is written by what this page does."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Rule | None = None) -> bool:
        """Return False, as for adding."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Rule | None = None) -> bool:
        """Return False, as for adding."""
        return False


def _call(request: HttpRequest, wanted: dict[str, Any]) -> Callable[..., queues.Answer]:
    action = wanted["action"]
    if action == PAUSE:
        by = one_line(str(request.user))[:LONGEST_NOTE]
        return lambda **given: queues.pause(**given, by=by, why=wanted["why"])
    if action == LIMIT:
        return lambda **given: queues.limit(**given, limit=wanted["limit"])
    if action == RATE:
        given_rate = {"rate": wanted["rate"], "burst": wanted["burst"] or 1}
        return lambda **given: queues.rate(**given, **given_rate)
    return {RESUME: queues.resume, UNLIMIT: queues.unlimit, UNRATE: queues.unrate}[action]


def _lines() -> Iterator[Line]:
    """Yield the queues of all databases, and the tasks for which something is set."""
    for one in queues.list():
        yield Line(one.using, QUEUE, one.name, one.pause, one.limit, one.rate)
    paused = {(one.using, one.name): one for one in queues.paused() if one.kind == TASK}
    limited = {
        (one.using, one.name): one
        for one in queues.limits()
        if one.kind == TASK and one.at_run_time
    }
    rated = {(one.using, one.name): one for one in queues.rates() if one.kind == TASK}
    for key in sorted({*paused, *limited, *rated}):
        using, name = key
        yield Line(using, TASK, name, paused.get(key), limited.get(key), rated.get(key))


def _log(request: HttpRequest, what: str, text: str) -> None:
    """Write to the admin's history; the row of a rule goes when it says nothing more."""
    by: Any = request.user.pk
    LogEntry.objects.create(
        user_id=by,
        content_type_id=ContentType.objects.get_for_model(Rule).pk,
        object_id=what[:LONGEST_SHOWN],
        object_repr=what[:200],
        action_flag=CHANGE,
        change_message=text,
    )
