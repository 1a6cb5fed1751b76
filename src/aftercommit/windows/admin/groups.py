"""A page in Django's admin that shows groups with their progress, and cancels them."""

from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aftercommit.enqueue.group_results import GroupResult
from aftercommit.ids import as_uuid
from aftercommit.models import Group
from aftercommit.store import store_for
from aftercommit.windows.admin.brief import with_parts
from aftercommit.windows.admin.filters import DatabaseFilter
from aftercommit.windows.databases import databases

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Group]
else:
    Base = admin.ModelAdmin


@admin.register(Group)
class GroupAdmin(Base):
    """Groups, the newest first. Their numbers are counted when they are shown."""

    actions = ("cancel_selected",)
    list_display = ("__str__", "created_at", "shown_progress", "state")
    list_filter = (DatabaseFilter,)
    list_per_page = 25  # each of them counts its jobs
    ordering = ("-id",)
    search_fields = ("name",)
    search_help_text = gettext_lazy("A part of the name.")
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ()
    fields = (
        "name",
        "id",
        "description",
        ("created_at", "cancelled_at"),
        ("progress", "time_left", "state"),
        ("total", "running", "succeeded", "failed", "cancelled"),
        "last_job",
        "meta",
    )
    readonly_fields = (
        *("progress", "time_left", "state", "last_job"),
        *("total", "running", "succeeded", "failed", "cancelled"),
    )

    class Media:
        css = {"all": ["aftercommit/admin.css"]}

    # ---- which ------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Group]:
        """Return the groups of the usual database."""
        return super().get_queryset(request).using(databases()[0])

    def get_object(
        self, request: HttpRequest, object_id: str, from_field: str | None = None
    ) -> Group | None:
        """Find a group in any database."""
        group_id = as_uuid(object_id)
        if group_id is None:
            return None
        found = (store_for(alias).group(group_id) for alias in databases())
        return next((group for group in found if group is not None), None)

    # ---- what is shown ----------------------------------------------------------

    @admin.display(description=gettext_lazy("progress"))
    def shown_progress(self, group: Group) -> SafeString:
        """Return the progress, and below it the time left and how many jobs have failed.

        In words, because a small window has no room for the titles of columns.
        """
        failed, left = _result(group).failed, self.time_left(group)
        return with_parts(
            self.progress(group),
            "" if left is None else _("%s left") % left,
            error=_("%d failed") % failed if failed else "",
        )

    @admin.display(description=gettext_lazy("progress"))
    def progress(self, group: Group) -> str:
        """Return how many of the jobs have ended."""
        found = _result(group)
        numbers = {"done": found.done, "total": found.total, "percent": found.progress * 100}
        return _("%(done)d of %(total)d (%(percent).0f %%)") % numbers

    @admin.display(description=gettext_lazy("time left"))
    def time_left(self, group: Group) -> str | None:
        """Return the estimate, without parts of a second."""
        estimate = _result(group).estimate
        return None if estimate is None else str(estimate).partition(".")[0]

    @admin.display(description=gettext_lazy("state"))
    def state(self, group: Group) -> str:
        """Return whether it has ended."""
        found = _result(group)
        if found.is_cancelled:
            return _("cancelled")
        return _("ended") if found.is_finished else _("goes on")

    @admin.display(description=gettext_lazy("total"))
    def total(self, group: Group) -> int:
        """Return how many jobs there are."""
        return _result(group).total

    @admin.display(description=gettext_lazy("running"))
    def running(self, group: Group) -> int:
        """Return how many jobs a worker has."""
        return _result(group).running

    @admin.display(description=gettext_lazy("succeeded"))
    def succeeded(self, group: Group) -> int:
        """Return how many jobs have succeeded."""
        return _result(group).succeeded

    @admin.display(description=gettext_lazy("failed"))
    def failed(self, group: Group) -> int:
        """Return how many jobs have failed."""
        return _result(group).failed

    @admin.display(description=gettext_lazy("cancelled"))
    def cancelled(self, group: Group) -> int:
        """Return how many jobs were cancelled."""
        return _result(group).cancelled

    @admin.display(description=gettext_lazy("last job"))
    def last_job(self, group: Group) -> str | None:
        """Return the id of the job that waits for all others."""
        return None if group.final_id is None else str(group.final_id)

    # ---- what can be done -------------------------------------------------------

    @admin.action(description=gettext_lazy("Cancel selected groups"), permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Group]) -> None:
        """Cancel the jobs that wait, and ask the workers of running ones to stop."""
        ended = asked = 0
        chosen = list(queryset)
        for group in chosen:
            answer = _result(group).cancel()
            ended, asked = ended + len(answer.ended), asked + len(answer.requested)
        by: Any = request.user.pk
        LogEntry.objects.log_actions(by, chosen, CHANGE, "Cancelled.")
        said = _("%(ended)d jobs are cancelled, %(asked)d more are asked to stop.")
        self.message_user(request, said % {"ended": ended, "asked": asked}, messages.SUCCESS)

    # ---- who --------------------------------------------------------------------

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Ask for the permission to cancel groups."""
        return bool(request.user.has_perm("aftercommit.cancel_group"))

    def has_view_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        """Ask for the permission to view, or to cancel."""
        may_view = bool(request.user.has_perm("aftercommit.view_group"))
        return may_view or self.has_cancel_permission(request)

    def has_module_permission(self, request: HttpRequest) -> bool:
        """Return whether the page is listed."""
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Return False: groups are enqueued by code."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        """Return False: only the store changes groups."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        """Return False: workers delete groups some time after their jobs."""
        return False


def _result(group: Group) -> GroupResult:
    """Return the numbers of a group, which are counted once for each row of the page."""
    found: GroupResult | None = getattr(group, "_numbers", None)
    if found is None:
        found = GroupResult(group, using=group._state.db or databases()[0])
        group._numbers = found  # type: ignore[attr-defined]
    return found
