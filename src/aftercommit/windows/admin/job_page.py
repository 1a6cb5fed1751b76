"""The page of one job in the admin: all that is known of it, and buttons that change it."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from aftercommit.jobs import Selection
from aftercommit.models import LIVE, UNSUCCESSFUL, Job, State
from aftercommit.store import store_for
from aftercommit.windows.admin import acting, content, noted
from aftercommit.windows.databases import databases

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Job]
else:
    Base = admin.ModelAdmin

MESSAGE_FIELDS = ("message_id", "ordering_key")
# The operation, the permission, the states of jobs for which there is a button, and the history.
BUTTONS: dict[str, tuple[Callable[..., Any], str, tuple[str, ...], str]] = {
    "retry": (Selection.retry, "retry", UNSUCCESSFUL, "Retried."),
    "run_now": (Selection.run_now, "retry", (State.READY,), "Run now."),
    "cancel": (Selection.cancel, "cancel", LIVE, "Cancelled."),
}
TITLES = {
    "retry": gettext_lazy("Retry"),
    "run_now": gettext_lazy("Run now"),
    "cancel": gettext_lazy("Cancel"),
}


class JobPage(Base):
    """What the page of a job shows and does."""

    change_form_template = "admin/aftercommit/job/change_form.html"

    # ---- what is shown ----------------------------------------------------------

    def get_fieldsets(self, request: HttpRequest, obj: Job | None = None) -> Any:
        """Return the fields; messages have some of their own.

        Arguments, results and kept values are for those with a permission of its own.
        """
        own = MESSAGE_FIELDS if obj is not None and content.is_message(obj) else ()
        may_read = request.user.has_perm("aftercommit.view_job_arguments")
        hint = _("To see arguments and results needs a permission of its own.")
        about = (*own, ("shown_state", "queue", "priority", "database"), "shown_tags")
        moments = ("run_after", "enqueued_at", "started_at", "claimed_at", "finished_at")
        runs = (("attempts", "max_attempts", "crashes", "conflicts"), moments)
        read = ("size", "content", "returned") if may_read else ("size",)
        described = {"fields": read, "description": "" if may_read else hint}
        return [
            (None, {"fields": ("name", "id", *about)}),
            (_("Runs"), {"fields": (*runs, "worker_id", "cancel_requested", "failures")}),
            (_("Content"), described),
            (_("Notes"), {"fields": ("progress", "log", *(["kept"] if may_read else []))}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Job | None = None) -> list[str]:
        """Return the fields that are no columns; all columns are read-only anyway."""
        shown = ("shown_state", "shown_tags", "database", "failures", "size", "content")
        return [*MESSAGE_FIELDS, "name", *shown, "returned", "progress", "log", "kept"]

    @admin.display(description=gettext_lazy("task"))
    def name(self, job: Job) -> str:
        """Return the path of the task, or for a message the name of its library's task."""
        return content.name_of(job)

    @admin.display(description=gettext_lazy("state"))
    def shown_state(self, job: Job) -> str:
        """Return the state; a message that a broker has is published, not yet a success.

        A job that waits for a worker that knows its task is of an unknown one; one that no
        worker may claim now says why.
        """
        if content.is_message(job) and job.state == State.SUCCEEDED:
            return _("published")
        if content.is_of_unknown_task(job):
            newer = content.is_of_newer_version(job)
            return _("newer version") if newer else _("unknown task")
        if why := content.wait_of(job):
            return why
        if job.state == State.READY and job.run_after > timezone.now():
            return _("retrying") if job.attempts else _("later")
        return str(job.get_state_display())

    @admin.display(description=gettext_lazy("message id"))
    def message_id(self, job: Job) -> str:
        """Return the id of a message in its library."""
        return content.noted(job, "message_id")

    @admin.display(description=gettext_lazy("ordering key"))
    def ordering_key(self, job: Job) -> str | None:
        """Return the ordering key of a message."""
        return content.noted(job, "ordering_key") or None

    @admin.display(description=gettext_lazy("tags"))
    def shown_tags(self, job: Job) -> str:
        """Return the tags, with links to the jobs that have them."""
        several = len(databases()) > 1
        query = {"database": str(job._state.db)} if several else {}
        return content.tags(job, page=self._list(), **query)

    @admin.display(description=gettext_lazy("database"))
    def database(self, job: Job) -> str | None:
        """Return the alias of the job's database."""
        return job._state.db

    @admin.display(description=gettext_lazy("size"))
    def size(self, job: Job) -> str:
        """Return the size of the stored arguments, or of the whole message."""
        return _("%d bytes") % len(job.payload)

    @admin.display(description=gettext_lazy("arguments"))
    def content(self, job: Job) -> SafeString | str:
        """Return the arguments, or the readable part of a message."""
        return content.arguments(job)

    @admin.display(description=gettext_lazy("returned"))
    def returned(self, job: Job) -> SafeString | None:
        """Return the return value of the task."""
        return content.return_value(job)

    @admin.display(description=gettext_lazy("failed runs"))
    def failures(self, job: Job) -> SafeString | None:
        """Return the errors of all failed runs, the oldest first."""
        return content.failed_runs(job)

    @admin.display(description=gettext_lazy("progress"))
    def progress(self, job: Job) -> SafeString | None:
        """Return how far the task is, as it has said."""
        return noted.progress(store_for(str(job._state.db)).progress_of([job.id]).get(job.id))

    @admin.display(description=gettext_lazy("log"))
    def log(self, job: Job) -> SafeString | None:
        """Return the last log lines of the runs, the oldest first."""
        store = store_for(str(job._state.db))
        return noted.log(store.last_lines_of(job.id, limit=noted.LINES + 1))

    @admin.display(description=gettext_lazy("kept for the next run"))
    def kept(self, job: Job) -> SafeString | None:
        """Return the checkpoint, and the answers of calls that are made once."""
        return noted.kept(store_for(str(job._state.db)).saved_of(job.id))

    # ---- what is done -----------------------------------------------------------

    def get_urls(self) -> list[Any]:
        """Return the addresses of the pages, and the one that the buttons post to."""
        act = self.admin_site.admin_view(require_POST(self.act_view))
        own = path("<path:object_id>/act/", act, name="aftercommit_job_act")
        return [own, *super().get_urls()]

    def render_change_form(
        self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Add the buttons."""
        job = kwargs.get("obj")
        if job is not None:
            context["buttons"] = [(name, TITLES[name]) for name in self._offered(request, job)]
        return super().render_change_form(request, context, *args, **kwargs)

    def act_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Retry, run now or cancel a job."""
        job, wanted = self.get_object(request, object_id), request.POST.get("action", "")
        if job is None or wanted not in BUTTONS:
            raise Http404
        operation, needs, states, said = BUTTONS[wanted]
        if not (self.has_view_permission(request, job) and self._may(request, needs)):
            raise PermissionDenied
        done = acting.one(request, job, operation, states=states, what=said)
        if done.changed:
            self.message_user(request, _("Done: %s") % TITLES[wanted], messages.SUCCESS)
        else:
            text = _("Nothing was changed: the job is in another state by now, or cannot run.")
            self.message_user(request, text, messages.WARNING)
        page = f"{self.admin_site.name}:aftercommit_job_change"
        return HttpResponseRedirect(reverse(page, args=[object_id]))

    def _offered(self, request: HttpRequest, job: Job) -> list[str]:
        is_later = job.state == State.READY and job.run_after > timezone.now()
        return [
            name
            for name, (_operation, needs, states, _said) in BUTTONS.items()
            if job.state in states and self._may(request, needs)
            if name != "run_now" or is_later
        ]

    def _may(self, request: HttpRequest, what: str) -> bool:
        return bool(request.user.has_perm(f"aftercommit.{what}_job"))

    def _list(self) -> str:
        return reverse("admin:aftercommit_job_changelist", current_app=self.admin_site.name)
