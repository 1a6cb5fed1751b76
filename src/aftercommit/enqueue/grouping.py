"""group(): calls that are enqueued as one, with a name, a progress and perhaps a last job."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import transaction

from aftercommit.enqueue.group_calls import GroupCalls, check_calls
from aftercommit.enqueue.group_results import GroupResult
from aftercommit.enqueue.payload import check_meta
from aftercommit.errors import ConfigurationError
from aftercommit.ids import new_job_id
from aftercommit.store import store_for
from aftercommit.values import CANCEL, ON_FAILURE

LONGEST_NAME = 255
LARGEST_META = 1024 * 1024  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewGroup:
    """Calls that are not enqueued yet; see ``group()``."""

    calls: GroupCalls
    name: str = ""
    description: str = ""
    meta: Mapping[str, Any] = field(default_factory=dict)

    def enqueue(self) -> GroupResult:
        """Insert the group and its jobs in the caller's transaction, all or nothing."""
        using = self.calls.using
        store = store_for(using)
        with transaction.atomic(using=using):
            group_id = new_job_id()
            done = self.calls.enqueue()
            last_id = None if done.last is None else UUID(done.last.id)
            row = store.insert_group(
                group_id,
                name=self.name,
                description=self.description,
                meta=self.meta,
                final_id=last_id,
            )
            store.add_members(group_id, done.members)
            if last_id is not None:
                store.add_members(group_id, [last_id])
            return GroupResult(row, using=using)

    async def aenqueue(self) -> GroupResult:
        """See ``enqueue``."""
        return await sync_to_async(self.enqueue)()


def group(
    calls: Iterable[Any],
    *,
    name: str = "",
    description: str = "",
    meta: Mapping[str, Any] | None = None,
    then: Any = None,
    on_failure: str = CANCEL,
) -> NewGroup:
    """Return calls as a group that is not enqueued yet: ``group(calls, name=...).enqueue()``.

    ``name``: by which ``groups.find()`` finds it; several groups may have the same.
    ``description`` and ``meta``, a JSON object, are stored with it. ``then``: a call that runs
    when all others have ended. ``on_failure``: what becomes of it if one of them fails or is
    cancelled, ``"cancel"``, ``"run"`` or ``"fail"``.

    Raises ``ConfigurationError`` for calls on different databases, and for a name that is no
    text of up to 255 characters.
    """
    check_name(name, where="group(): name")
    if meta:
        check_meta(dict(meta), task_path="group()", limit=LARGEST_META)
    if on_failure not in ON_FAILURE:
        raise ConfigurationError(
            f"group(): on_failure: expected one of {', '.join(ON_FAILURE)}, got {on_failure!r}."
        )
    return NewGroup(
        calls=check_calls(calls, then=then, on_failure=on_failure),
        name=name,
        description=description,
        meta=dict(meta or {}),
    )


def check_name(name: str, *, where: str) -> None:
    """Raise ``ConfigurationError`` for what no database takes as the name of a group."""
    if not isinstance(name, str) or len(name) > LONGEST_NAME or "\0" in name:
        raise ConfigurationError(
            f"{where}: expected a text of at most {LONGEST_NAME} characters, got {name!r}."
        )
