"""Find groups of jobs, from any process; a group is made by ``aftercommit.group()``."""

from uuid import UUID

from aftercommit.enqueue.group_results import GroupResult
from aftercommit.errors import GroupDoesNotExist
from aftercommit.jobs.asked import database
from aftercommit.store import store_for

__all__ = ["GroupResult", "find", "get", "latest"]

MOST = 100


def get(group_id: str | UUID, *, using: str | None = None) -> GroupResult:
    """Return the group with this id; raises ``GroupDoesNotExist``."""
    alias = database(using)
    try:
        row = store_for(alias).group(UUID(str(group_id)))
    except ValueError:
        row = None
    if row is None:
        raise GroupDoesNotExist(group=str(group_id))
    return GroupResult(row, using=alias)


def find(
    *, name: str | None = None, using: str | None = None, most: int = MOST
) -> list[GroupResult]:
    """Return the groups with this name, or of any, the newest first; at most ``most``."""
    alias = database(using)
    store = store_for(alias)
    rows = (
        store.latest_groups(limit=most) if name is None else store.named_groups(name, limit=most)
    )
    return [GroupResult(row, using=alias) for row in rows]


def latest(name: str, *, using: str | None = None) -> GroupResult:
    """Return the newest group with this name; raises ``GroupDoesNotExist``."""
    for found in find(name=name, using=using, most=1):
        return found
    raise GroupDoesNotExist(group=name)
