"""The reproducer: the race between a transaction and its tasks, on purpose and every time.

Needs Django only, and no other part of this package in the project. See
``docs/how-to/reproduce-the-race.md``.
"""

from aftercommit.reproduce.copies import drop_copies, prepare_copies
from aftercommit.reproduce.report import Race
from aftercommit.reproduce.reproducing import Findings, assert_no_race, find_races
from aftercommit.reproduce.schedules import Schedule

__all__ = [
    "Findings",
    "Race",
    "Schedule",
    "assert_no_race",
    "drop_copies",
    "find_races",
    "prepare_copies",
]
