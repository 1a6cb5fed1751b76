"""Imports the queued tasks of django-tasks-db, once a part of django-tasks."""

from typing import Any
from uuid import UUID

from aftercommit.importing.tables import TableSource, parsed
from aftercommit.importing.values import Message
from aftercommit.store.columns import moment_from
from aftercommit.store.other_tables import DJANGO_TASKS_DB

LAST_YEAR = 9999


class DjangoTasksDB(TableSource):
    """Its rows say the same as ours: also queue and priority mean the same."""

    name = "django-tasks-db"
    table = DJANGO_TASKS_DB

    def message(self, row: dict[str, Any]) -> Message:
        """See ``TableSource.message``."""
        call = parsed(row["args_kwargs"])
        is_call = isinstance(call, dict) and {"args", "kwargs"} <= call.keys()
        return Message(
            key=str(UUID(str(row["id"]))),
            task=row["task_path"],
            args=list(call["args"]) if is_call else [],
            kwargs=dict(call["kwargs"]) if is_call else {},
            queue=row["queue_name"],
            priority=row["priority"],
            # The end of the calendar stands for "at once" there.
            run_after=None if row["run_after"] is None else _moment(row["run_after"]),
            unfit=None if is_call else "its arguments are not JSON as the library writes it",
            raw=row["id"],
        )


def _moment(value: Any) -> Any:
    moment = moment_from(value)
    return None if moment.year == LAST_YEAR else moment
