"""Pages in Django's admin about periodic tasks: edit, enable, disable, reset, run now.

Each change is an operation of ``aftercommit.schedules``, which refuses what is not possible.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from django.contrib import admin, messages
from django.db import Error
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from aftercommit import schedules
from aftercommit.errors import AftercommitError
from aftercommit.models import Schedule
from aftercommit.printable import one_line
from aftercommit.schedules.found import of_row
from aftercommit.store import store_for
from aftercommit.windows.admin.brief import with_parts
from aftercommit.windows.admin.filters import DatabaseFilter
from aftercommit.windows.admin.schedule_form import CALLED, TIMES, Impossible, ScheduleForm
from aftercommit.windows.databases import databases

if TYPE_CHECKING:
    Base = admin.ModelAdmin[Schedule]
else:
    Base = admin.ModelAdmin

RESULTS = (
    *("database", "source", "shown_state", "upcoming", "last_run", "last_job", "missed"),
    *("skipped", "shown_problem", "shown_edited"),
)
MOST_SHOWN = 5  # moments that come


@admin.register(Schedule)
class ScheduleAdmin(Base):
    """Schedules; to view, add, change, delete and run each has a permission of its own."""

    actions = ("enable_selected", "disable_selected", "run_selected", "reset_selected")
    form = ScheduleForm
    list_display = (*("named", "when", "shown_state", "next_moment", "last_moment", "missed"),)
    list_filter = (DatabaseFilter, "source", "enabled")
    ordering = ("name",)
    search_fields = ("name", "task_path")
    sortable_by = ("named", "last_moment")

    class Media:
        css = {"all": ["aftercommit/admin.css"]}

    # ---- which ------------------------------------------------------------------

    def get_queryset(self, request: HttpRequest) -> QuerySet[Schedule]:
        """Return the schedules of the chosen database."""
        return super().get_queryset(request).using(_chosen(request))

    def get_readonly_fields(self, request: HttpRequest, obj: Schedule | None = None) -> Any:
        """Return what is only shown."""
        return () if obj is None else ("name", "task_path", "backend", *RESULTS)

    def get_fieldsets(self, request: HttpRequest, obj: Schedule | None = None) -> Any:
        """Return what is asked, and below it what has become of it."""
        asked = [
            (None, {"fields": ("name", "task_path", "backend", "enabled")}),
            (_("When"), {"fields": TIMES}),
            (_("Job"), {"fields": CALLED}),
        ]
        return asked if obj is None else [*asked, (_("Now"), {"fields": RESULTS})]

    # ---- what is shown ----------------------------------------------------------

    @admin.display(description=gettext_lazy("database"))
    def database(self, row: Schedule) -> str | None:
        """Return the alias."""
        return row._state.db

    @admin.display(description=gettext_lazy("name"), ordering="name")
    def named(self, row: Schedule) -> SafeString:
        """Return the name, and below it the task and what people have changed."""
        edited = ", ".join(one_line(one) for one in row.edited)
        said = _("edited: %s") % edited if edited else ""
        return with_parts(one_line(row.name), one_line(row.task_path), said)

    @admin.display(description=gettext_lazy("last run"), ordering="last_run")
    def last_moment(self, row: Schedule) -> str | None:
        """Return the latest moment that became a job, by the clock of the schedule."""
        return None if row.last_run is None else _local(row, row.last_run)

    @admin.display(description=gettext_lazy("when"))
    def when(self, row: Schedule) -> str:
        """Return when it is due, in words."""
        return one_line(_found(row).when)

    @admin.display(description=gettext_lazy("state"))
    def shown_state(self, row: Schedule) -> str:
        """Return whether it is enabled, late or over."""
        return _found(row).state

    @admin.display(description=gettext_lazy("next run"), ordering="next_run")
    def next_moment(self, row: Schedule) -> str | None:
        """Return the next moment, by the clock of the schedule."""
        return None if row.next_run is None else _local(row, row.next_run)

    @admin.display(description=gettext_lazy("next runs"))
    def upcoming(self, row: Schedule) -> str:
        """Return the next moments, by the clock of the schedule."""
        try:
            found = schedules.upcoming(row.name, MOST_SHOWN, using=row._state.db)
        except Impossible as error:
            return one_line(str(error))
        return ", ".join(_local(row, one) for one in found) or "-"

    @admin.display(description=gettext_lazy("last job"))
    def last_job(self, row: Schedule) -> SafeString | None:
        """Return a link to the latest job."""
        if row.last_job_id is None:
            return None
        address = reverse(
            f"{self.admin_site.name}:aftercommit_job_change", args=[str(row.last_job_id)]
        )
        return format_html('<a href="{}">{}</a>', address, row.last_job_id)

    @admin.display(description=gettext_lazy("problem"))
    def shown_problem(self, row: Schedule) -> str:
        """Return why the present moment became no job."""
        return one_line(row.problem) or "-"

    @admin.display(description=gettext_lazy("edited"))
    def shown_edited(self, row: Schedule) -> str:
        """Return what people have changed of what is declared."""
        return ", ".join(one_line(one) for one in row.edited) or "-"

    # ---- what is done -----------------------------------------------------------

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        """Say what is not possible any more since the form was checked; nothing is changed."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except AftercommitError as error:
            if request.method != "POST":
                raise
            self.message_user(request, str(error), messages.ERROR, fail_silently=True)
            return HttpResponseRedirect(request.get_full_path())

    def save_model(self, request: HttpRequest, obj: Schedule, form: Any, change: bool) -> None:
        """Create or edit it; nobody saves a row."""
        written = form.write()
        if not change:
            obj.__dict__.update(_row(written.using, written.name).__dict__)

    def delete_model(self, request: HttpRequest, obj: Schedule) -> None:
        """Remove it."""
        schedules.remove(obj.name, using=obj._state.db)

    @admin.action(description=gettext_lazy("Enable selected schedules"), permissions=["change"])
    def enable_selected(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Enable them, from now on."""
        self._each(request, queryset, schedules.enable, _("enabled"))

    @admin.action(description=gettext_lazy("Disable selected schedules"), permissions=["change"])
    def disable_selected(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Disable them."""
        self._each(request, queryset, schedules.disable, _("disabled"))

    @admin.action(description=gettext_lazy("Run selected schedules now"), permissions=["run"])
    def run_selected(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Enqueue a job of each."""
        self._each(request, queryset, schedules.run_now, _("run now"))

    @admin.action(
        description=gettext_lazy("Take edits of selected schedules back"), permissions=["change"]
    )
    def reset_selected(self, request: HttpRequest, queryset: QuerySet[Schedule]) -> None:
        """Let them say again what is declared."""
        self._each(request, queryset, schedules.reset, _("reset"))

    def _each(
        self,
        request: HttpRequest,
        queryset: QuerySet[Schedule],
        operation: Callable[..., object],
        done: str,
    ) -> None:
        for row in queryset.order_by("name"):
            try:
                operation(row.name, using=queryset.db)
            except (*Impossible, Error) as error:
                text, level = f"{one_line(row.name)}: {error}", messages.WARNING
            else:
                text, level = f"{one_line(row.name)}: {done}", messages.SUCCESS
                self.log_change(request, row, done)
            self.message_user(request, text, level, fail_silently=True)

    # ---- who --------------------------------------------------------------------

    def get_actions(self, request: HttpRequest, action_location: Any = None) -> Any:
        """Leave out the deletion of many: what is declared cannot be deleted."""
        where = {} if action_location is None else {"action_location": action_location}
        found = super().get_actions(request, **where)  # from Django 6.1 on
        found.pop("delete_selected", None)
        return found

    def has_run_permission(self, request: HttpRequest) -> bool:
        """Ask for the permission to run schedules."""
        return bool(request.user.has_perm("aftercommit.run_schedule"))

    def has_delete_permission(self, request: HttpRequest, obj: Schedule | None = None) -> bool:
        """Ask for the permission; what is declared would be back at once."""
        is_declared = obj is not None and obj.source != "people" and obj.ended_at is None
        return not is_declared and super().has_delete_permission(request, obj)


def _chosen(request: HttpRequest) -> str:
    """Return the database of the list, or of the list from which a page was reached."""
    before = parse_qs(request.GET.get("_changelist_filters", ""))
    alias = request.GET.get("database") or before.get("database", [""])[0]
    known = databases()
    return alias if alias in known else known[0]


def _row(using: str, name: str) -> Schedule:
    return store_for(using).schedules([name])[0]


def _found(row: Schedule) -> schedules.Schedule:
    return of_row(row._state.db or databases()[0], row, timezone.now())


def _local(row: Schedule, moment: Any) -> str:
    return f"{_found(row).local(moment):%Y-%m-%d %H:%M:%S %Z}"
