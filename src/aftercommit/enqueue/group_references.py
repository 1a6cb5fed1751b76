"""Groups by Django Async's rules: by a reference, and no job once one of them has ended."""

from typing import TYPE_CHECKING
from uuid import UUID

from django.db import transaction

from aftercommit.enqueue.group_results import GroupResult
from aftercommit.enqueue.grouping import check_name
from aftercommit.errors import GroupHasEnded
from aftercommit.ids import new_job_id
from aftercommit.store import store_for
from aftercommit.values import RUN

if TYPE_CHECKING:
    from aftercommit.models import Group


def newest_group(
    name: str, *, using: str, description: str = "", new: bool = False
) -> GroupResult:
    """Return the newest group of a name that has not completed, or a new one.

    ``new``: a new one in any case. A new one has the description of the one before.
    """
    check_name(name, where="The name of a group")
    store = store_for(using)
    found = next(iter(store.named_groups(name, limit=1)), None)
    newest = None if found is None else GroupResult(found, using=using)
    if newest is not None and not new and not newest.has_completed and not newest.is_cancelled:
        return newest
    if newest is not None:
        description = description or newest.description
    row = store.insert_group(new_job_id(), name=name, description=description, meta={})
    return GroupResult(row, using=using)


def group_for(group: str | GroupResult, *, using: str) -> "Group":
    """Hold a group open for a job, in the caller's transaction.

    For a name the newest group that has not completed, or a new one. Raises ``GroupHasEnded``
    if one of its jobs has ended.
    """
    found = newest_group(group, using=using) if isinstance(group, str) else group
    return store_for(using).hold_open(UUID(found.id), untouched=True)


def end_with(found: GroupResult, job_id: UUID) -> bool:
    """Let a job run when all others of a group have ended; False if it has another last job.

    Raises ``GroupHasEnded`` if the job has begun.
    """
    store, group_id = store_for(found.using), UUID(found.id)
    with transaction.atomic(using=found.using):
        if store.last_of(group_id) != job_id and not store.set_last(group_id, job_id):
            return False
        needs = store.members_but_last(group_id)
        if needs and not store.let_wait(job_id, needs, on_failure=RUN):
            raise GroupHasEnded(group=found.name or found.id, why="its final job has begun")
    found.refresh()
    return True
