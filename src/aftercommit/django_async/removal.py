"""remove_old_jobs(): deletes what has ended long ago, and schedules itself again."""

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.utils import timezone

from aftercommit.enqueue.functions import schedule
from aftercommit.enqueue.retention import retention_of
from aftercommit.jobs.deleting import Deleting
from aftercommit.store import default_alias, store_for
from aftercommit.store.pruning import FIRST_ID

if TYPE_CHECKING:
    from aftercommit.store.base import Store

AT_ONCE = timedelta(days=-1)  # as if a group had been without jobs for long
PATH = "aftercommit.django_async.removal.remove_old_jobs"
ONE_PAGE = 500
MOST_AT_ONCE = 10_000  # jobs; their rows stay locked until the call has ended


def remove_old_jobs(remove_jobs_before_days: int = 30, resched_hours: int = 8) -> None:
    """Delete jobs that ended so many days ago, and groups as old whose jobs are all deleted.

    Then schedule the next call, in ``resched_hours``. As it runs in one transaction, it deletes
    about ``MOST_AT_ONCE`` jobs; if that may not have been all, the next call follows at once.
    Workers delete old jobs by themselves, by ``keep_result``; this is for projects that call it
    already.
    """
    using, span = default_alias(), timedelta(days=remove_jobs_before_days)
    store, deleting = store_for(using), Deleting(store_for(using), retention_of(using))
    is_done = _remove_jobs(store, deleting, span)
    if is_done:
        _remove_groups(store, span)
    schedule(
        PATH,
        args=[remove_jobs_before_days, resched_hours],
        run_after=timezone.now() + timedelta(hours=resched_hours) if is_done else None,
    )


def _remove_jobs(store: "Store", deleting: Deleting, span: timedelta) -> bool:
    """Delete old jobs, page by page; return whether none is left that can be deleted.

    Jobs that stay (an archive or a row of the user's refuses them) do not count, so that each
    call that is not the last deletes others.
    """
    place, is_full = FIRST_ID, True
    while is_full:
        if deleting.jobs >= MOST_AT_ONCE:
            return False
        ended, place, is_full = store.page(after=place, older_than=span, limit=ONE_PAGE)
        old = [one for one in ended if one.age > span]
        kept = store.young_or_unfinished([one.job_id for one in old], older_than=span)
        deleting.delete([one for one in old if one.job_id not in kept])
    return True


def _remove_groups(store: "Store", span: timedelta) -> None:
    """Delete the groups that were made before a span, and of which no row of a job is left."""
    place: UUID | None = FIRST_ID
    while place is not None:
        place = store.prune_groups(
            after=place, older_than=AT_ONCE, made_before=span, limit=ONE_PAGE
        )
