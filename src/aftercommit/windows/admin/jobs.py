"""Pages in Django's admin that show jobs and messages, and retry and cancel them.

Jobs cannot be added, edited or deleted here: only the store changes them. Of a message only
JSON is shown; a pickle is never loaded.
"""

from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from django.contrib import admin, messages
from django.db import Error, transaction
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Lower
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aftercommit.ids import as_uuid
from aftercommit.models import Job
from aftercommit.printable import one_line
from aftercommit.relay.neglected import Neglect, neglected
from aftercommit.relay.outbox import relaying
from aftercommit.store import store_for
from aftercommit.store.browsing import light
from aftercommit.windows.admin import acting, content
from aftercommit.windows.admin.bounded import CappedPaginator, JobChangeList
from aftercommit.windows.admin.brief import cut, last_line, preview, with_parts
from aftercommit.windows.admin.filters import (
    DatabaseFilter,
    QueueFilter,
    StateFilter,
    TagFilter,
)
from aftercommit.windows.admin.job_page import JobPage
from aftercommit.windows.databases import databases


@admin.register(Job)
class JobAdmin(JobPage):
    """Jobs, the newest first; to retry and to cancel have their own permissions."""

    actions = ("retry_selected", "cancel_selected")
    list_display = (*("call", "listed_state", "listed_queue", "enqueued", "ended"),)
    list_filter = (DatabaseFilter, StateFilter, QueueFilter, TagFilter)
    ordering = ("-id",)
    search_fields = ("id",)
    search_help_text = gettext_lazy("An id of a job or a message, or a part of a task's name.")
    show_facets = admin.ShowFacets.NEVER  # each facet would count the whole table
    show_full_result_count = False
    sortable_by = ("enqueued",)  # what the primary key has in order
    paginator = CappedPaginator

    class Media:
        css = {"all": ["aftercommit/admin.css"]}

    # ---- which ------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        """Return the jobs of the usual database, without columns that may be large."""
        rows = light(super().get_queryset(request).using(databases()[0]))
        may_read = request.user.has_perm("aftercommit.view_job_arguments")
        return rows.annotate(shows_arguments=Value(may_read))

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[JobChangeList]:
        """Return the list that reads no whole table."""
        return JobChangeList

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Job | None:
        """Find a job in any database."""
        job_id = as_uuid(object_id)
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
        if job_id := as_uuid(search_term):
            wanted |= Q(pk=job_id)
        return found.filter(wanted), False

    # ---- what is shown ----------------------------------------------------------

    @admin.display(description=gettext_lazy("task"))
    def call(self, job: Any) -> SafeString:
        """Return the task, and below it the arguments and the last line of the latest error.

        One column, so that the list has room beside the filters of a small window.
        """
        arguments = cut(preview(job)) if job.shows_arguments else ""
        return with_parts(content.name_of(job), arguments, error=cut(last_line(job.errors_tail)))

    @admin.display(description=gettext_lazy("state"))
    def listed_state(self, job: Job) -> SafeString:
        """Return the state, and below it how many runs there were, of how many."""
        return with_parts(self.shown_state(job), f"{job.attempts} / {job.max_attempts}")

    @admin.display(description=gettext_lazy("queue"))
    def listed_queue(self, job: Job) -> SafeString:
        """Return the queue, and below it the tags."""
        return format_html("{} {}", one_line(str(job.queue)), self.shown_tags(job))

    @admin.display(description=gettext_lazy("enqueued"), ordering="id")
    def enqueued(self, job: Job) -> str:
        """Return when it was enqueued; the ids are in this order."""
        return content.moment(job.enqueued_at)

    @admin.display(description=gettext_lazy("ended"))
    def ended(self, job: Job) -> str | None:
        """Return when it ended."""
        return content.moment(job.finished_at) if job.finished_at else None

    def changelist_view(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> Any:
        """Show the jobs, and say if messages have waited for a relay for long."""
        if request.method == "GET" and self.has_view_permission(request):
            for one in _neglected():
                self.message_user(request, str(one), messages.WARNING, fail_silently=True)
        return super().changelist_view(request, extra_context)

    # ---- what can be done -------------------------------------------------------

    @admin.action(description=gettext_lazy("Retry selected jobs"), permissions=["retry"])
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        """Make failed and cancelled jobs ready again."""
        done = acting.retry(request, queryset)
        said = _("%(retried)d of %(chosen)d jobs will run again; only failed and cancelled can.")
        said %= {"retried": done.changed, "chosen": done.chosen}
        if done.clashed:
            said += " " + _("%d of them: another job has its unique key.") % done.clashed
        if done.unmet:
            unmet = _(
                "%d of them need jobs that have not succeeded: retry those first or as well."
            )
            said += f" {unmet % done.unmet}"
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
