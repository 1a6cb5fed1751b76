"""Pages in Django's admin that show jobs and messages, and retry and cancel them.

Jobs cannot be added, edited or deleted here: only the store changes them. Of a message only
JSON is shown; a pickle is never loaded.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django.contrib import admin, messages
from django.db import Error, transaction
from django.db.models import Q, QuerySet
from django.db.models.functions import Lower
from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aftercommit.models import Job, State
from aftercommit.relay.neglected import Neglect, neglected
from aftercommit.relay.outbox import relaying
from aftercommit.store import store_for
from aftercommit.windows.admin import acting, content
from aftercommit.windows.admin.filters import (
    DatabaseFilter,
    QueueFilter,
    StateFilter,
    TagFilter,
    databases,
)

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Job]
else:
    Base = admin.ModelAdmin

MESSAGE_FIELDS = ("message_id", "ordering_key")


@admin.register(Job)
class JobAdmin(Base):
    """Jobs, the newest first; to retry and to cancel have their own permissions."""

    actions = ("retry_selected", "cancel_selected")
    list_display = (
        *("name", "shown_state", "queue", "shown_tags", "attempts"),
        *("enqueued_at", "finished_at"),
    )
    list_filter = (DatabaseFilter, StateFilter, QueueFilter, TagFilter)
    ordering = ("-id",)
    search_fields = ("id",)
    search_help_text = gettext_lazy("An id of a job or a message, or a part of a task's name.")
    show_facets = admin.ShowFacets.NEVER  # each facet would count the whole table
    show_full_result_count = False
    sortable_by = ()

    # ---- which ------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        """Return the jobs of the usual database, without columns that may be large."""
        jobs = super().get_queryset(request).using(databases()[0])
        return jobs.defer("payload", "result", "errors")

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Job | None:
        """Find a job in any database."""
        job_id = _uuid(object_id)
        if job_id is None:
            return None
        found = (store_for(alias).job(job_id) for alias in databases())
        return next((job for job in found if job is not None), None)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Job], search_term: str
    ) -> tuple[QuerySet[Job], bool]:
        """Find a job by its id, a message by its id in its library, and both by their name."""
        if not search_term:
            return queryset, False
        # Not icontains: MySQL compares this column by its bytes.
        found = queryset.alias(path=Lower("task_path"))
        wanted = Q(meta__message_id=search_term) | Q(path__contains=search_term.lower())
        wanted |= Q(meta__name__icontains=search_term)
        if job_id := _uuid(search_term):
            wanted |= Q(pk=job_id)
        return found.filter(wanted), False

    # ---- what is shown ----------------------------------------------------------

    def get_fieldsets(self, request: HttpRequest, obj: Job | None = None) -> Any:
        """Return the fields; messages have some of their own."""
        own = MESSAGE_FIELDS if obj is not None and content.is_message(obj) else ()
        return [
            (
                None,
                {
                    "fields": (
                        "name",
                        "id",
                        *own,
                        ("shown_state", "queue", "priority", "database"),
                        "shown_tags",
                    )
                },
            ),
            (
                _("Runs"),
                {
                    "fields": (
                        ("attempts", "max_attempts", "crashes", "conflicts"),
                        ("run_after", "enqueued_at", "started_at", "claimed_at", "finished_at"),
                        "worker_id",
                        "cancel_requested",
                        "failures",
                    )
                },
            ),
            (_("Content"), {"fields": ("size", "content", "returned")}),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: Job | None = None) -> list[str]:
        """Return the fields that are no columns; all columns are read-only anyway."""
        return [
            *MESSAGE_FIELDS,
            "name",
            "shown_state",
            "shown_tags",
            "database",
            "failures",
            "size",
            "content",
            "returned",
        ]

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
            return _("unknown task")
        if why := content.wait_of(job):
            return why
        return str(job.get_state_display())

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Show the jobs, and say if messages have waited for a relay for long."""
        if request.method == "GET" and self.has_view_permission(request):
            for one in _neglected():
                self.message_user(request, str(one), messages.WARNING, fail_silently=True)
        return super().changelist_view(request, extra_context)

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
        page = reverse("admin:aftercommit_job_changelist", current_app=self.admin_site.name)
        several = len(databases()) > 1
        return content.tags(job, page=page, **{"database": str(job._state.db)} if several else {})

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

    # ---- what can be done -------------------------------------------------------

    @admin.action(description=gettext_lazy("Retry selected jobs"), permissions=["retry"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Make failed and cancelled jobs ready again."""
        done = acting.retry(request, queryset)
        said = _("%(retried)d of %(chosen)d jobs will run again; only failed and cancelled can.")
        said %= {"retried": done.changed, "chosen": done.chosen}
        if done.clashed:
            said += " " + _("%d of them: another job has its unique key.") % done.clashed
        self._answer(request, said, complete=done.is_complete)

    @admin.action(description=gettext_lazy("Cancel selected jobs"), permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Cancel ready jobs, and ask the workers of running jobs to stop."""
        done = acting.cancel(request, queryset)
        said = _(
            "%(cancelled)d of %(chosen)d jobs are cancelled, %(asked)d more are asked to stop; "
            "those that have ended stay as they are."
        ) % {
            "cancelled": done.changed - done.asked,
            "asked": done.asked,
            "chosen": done.chosen,
        }
        self._answer(request, said, complete=done.is_complete)

    def _answer(self, request: HttpRequest, said: str, *, complete: bool) -> None:
        self.message_user(request, said, messages.SUCCESS if complete else messages.WARNING)

    # ---- who --------------------------------------------------------------------

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Ask for the permission to retry."""
        return bool(request.user.has_perm("aftercommit.retry_job"))

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Ask for the permission to cancel."""
        return bool(request.user.has_perm("aftercommit.cancel_job"))

    def has_view_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """Ask for the permission to view; that to change gives none, as nobody changes a job."""
        return bool(request.user.has_perm("aftercommit.view_job"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: jobs are enqueued by code."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """Return False: only the store changes jobs."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """Return False: finished jobs are deleted by ``prune``."""
        return False


def _neglected() -> Iterable[Neglect]:
    """Return what to say of messages; of a database that does not answer nothing is said."""
    found: dict[Neglect, None] = {}
    for backend in relaying():
        # A savepoint, with ATOMIC_REQUESTS: the error would break the transaction of the page.
        with suppress(Error), transaction.atomic(using=backend.using):
            found.update(dict.fromkeys(neglected(backend)))
    return found


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
