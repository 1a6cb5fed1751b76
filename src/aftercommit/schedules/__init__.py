"""What operators may do about periodic tasks while workers run: find, enable, run now, edit.

The commands and the admin's page call these functions, and so may your code. In a transaction of
the caller, a change is part of it.
"""

from aftercommit.schedules.changes import (
    create,
    disable,
    edit,
    enable,
    remove,
    reset,
    run_now,
)
from aftercommit.schedules.found import Schedule, find, get, upcoming

__all__ = [
    "Schedule",
    "create",
    "disable",
    "edit",
    "enable",
    "find",
    "get",
    "remove",
    "reset",
    "run_now",
    "upcoming",
]
