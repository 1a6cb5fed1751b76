"""Imports the queued jobs of procrastinate."""

from typing import Any

from aftercommit.importing.tables import TableSource, parsed
from aftercommit.importing.values import Message
from aftercommit.store.columns import moment_from
from aftercommit.store.other_tables import PROCRASTINATE

ITS_OWN = ("builtin:", "procrastinate.")  # tasks that look after its tables


class Procrastinate(TableSource):
    """A taken row becomes ``cancelled``, for other rows may refer to it."""

    name = "procrastinate"
    table = PROCRASTINATE

    def message(self, row: dict[str, Any]) -> Message:
        """See ``TableSource.message``; there are no positional arguments."""
        kwargs, name = parsed(row["args"]), row["task_name"]
        unfit = None if isinstance(kwargs, dict) else "its arguments are no JSON object"
        if name.startswith(ITS_OWN):
            unfit = "it looks after procrastinate's own tables"
        scheduled = row["scheduled_at"]
        return Message(
            key=str(row["id"]),
            task=name,
            kwargs=kwargs if isinstance(kwargs, dict) else {},
            priority=row["priority"],
            run_after=None if scheduled is None else moment_from(scheduled),
            unfit=unfit,
            raw=row["id"],
        )
