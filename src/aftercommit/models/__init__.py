"""The tables: jobs and what belongs to them, groups, schedules, workers, rules and rates."""

from aftercommit.models.audit import AuditRecord
from aftercommit.models.dependency import Dependency
from aftercommit.models.flow import Rate, Slot
from aftercommit.models.group import Group, Member
from aftercommit.models.job import FINISHED, LIVE, UNSUCCESSFUL, Blocked, Job, State
from aftercommit.models.lease import Lease
from aftercommit.models.notes import LogLine, Progress, Saved
from aftercommit.models.portable import (
    Count,
    Name,
    PartialIndex,
    UniqueByBytes,
    UniqueWhenSet,
    UtcNow,
)
from aftercommit.models.received import Received
from aftercommit.models.rule import Rule
from aftercommit.models.schedule import Schedule, Tick
from aftercommit.models.statistic import Statistic
from aftercommit.models.worker import WorkerPresence

__all__ = [
    "FINISHED",
    "LIVE",
    "UNSUCCESSFUL",
    "AuditRecord",
    "Blocked",
    "Count",
    "Dependency",
    "Group",
    "Job",
    "Lease",
    "LogLine",
    "Member",
    "Name",
    "PartialIndex",
    "Progress",
    "Rate",
    "Received",
    "Rule",
    "Saved",
    "Schedule",
    "Slot",
    "State",
    "Statistic",
    "Tick",
    "UniqueByBytes",
    "UniqueWhenSet",
    "UtcNow",
    "WorkerPresence",
]
