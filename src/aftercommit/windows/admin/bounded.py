"""The list of jobs, of which each page reads a part that does not grow with the table.

No page counts all jobs, and what no index finds is looked for among the newest.
"""

from typing import TYPE_CHECKING, Any

from django.contrib.admin.views.main import ChangeList
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.functional import cached_property

from aftercommit.ids import as_uuid
from aftercommit.models import Job, State
from aftercommit.store import store_for
from aftercommit.windows.admin.filters import KINDS

if TYPE_CHECKING:
    Pages = Paginator[Job]
else:
    Pages = Paginator

MOST_COUNTED = 10_000  # jobs
MOST_SEARCHED = 100_000  # the newest ones
# Found by an index, or so few that they are found by one.
INDEXED = (*KINDS, State.READY, State.RUNNING, State.FAILED, State.CANCELLED)


class CappedPaginator(Pages):
    """Pages of the first ``MOST_COUNTED`` jobs; what comes behind is found by filters."""

    @cached_property
    def count(self) -> int:
        """Return how many there are, and never more than are counted."""
        rows: Any = self.object_list
        return int(rows.order_by()[:MOST_COUNTED].count())


class JobChangeList(ChangeList):
    """The list of jobs."""

    is_cut = False  # older jobs were not looked at

    @property
    def is_capped(self) -> bool:
        """Whether there may be more than were counted."""
        return bool(self.result_count >= MOST_COUNTED)

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet[Job]:
        """Return what the filters and the search ask for, of the newest jobs if need be."""
        rows: QuerySet[Job] = super().get_queryset(request, *args, **kwargs)
        if not self._reads_others(request):
            return rows
        job_id = as_uuid(self.query)
        if job_id is not None and rows.filter(pk=job_id).exists():
            return rows.filter(pk=job_id)
        oldest = store_for(rows.db).id_so_far_back(MOST_SEARCHED)
        self.is_cut = oldest is not None
        return rows if oldest is None else rows.filter(pk__gte=oldest)

    def _reads_others(self, request: HttpRequest) -> bool:
        """Whether rows are read that are not asked for, perhaps most of the table."""
        if self.query or request.GET.get("tag"):
            return True
        state = request.GET.get("state")
        return state == State.SUCCEEDED or bool(request.GET.get("queue") and state not in INDEXED)
