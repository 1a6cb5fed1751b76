"""Imports the queued tasks of django-background-tasks."""

from typing import Any

from django.conf import settings

from aftercommit.importing.tables import TableSource, parsed
from aftercommit.importing.values import Message
from aftercommit.store.columns import moment_from
from aftercommit.store.other_tables import BACKGROUND_TASKS

PARTS = 2  # of task_params: positional arguments, and those by name


class DjangoBackgroundTasks(TableSource):
    """Rows that repeat are left: here the declaration of a task says when it is due."""

    name = "django-background-tasks"
    table = BACKGROUND_TASKS

    def message(self, row: dict[str, Any]) -> Message:
        """See ``TableSource.message``."""
        call = parsed(row["task_params"])
        unfit = None
        if not (
            isinstance(call, list)
            and len(call) == PARTS
            and isinstance(call[0], list)
            and isinstance(call[1], dict)
        ):
            call, unfit = [[], {}], "its arguments are not JSON as the library writes it"
        if row["repeat"]:
            unfit = f"it repeats every {row['repeat']} s: declare every= on the task"
        return Message(
            key=str(row["id"]),
            task=row["task_name"],
            args=call[0],
            kwargs=call[1],
            priority=-row["priority"] if _lowest_first() else row["priority"],
            run_after=moment_from(row["run_at"]),
            unfit=unfit,
            raw=row["id"],
        )


def _lowest_first() -> bool:
    return getattr(settings, "BACKGROUND_TASK_PRIORITY_ORDERING", "DESC") == "ASC"
