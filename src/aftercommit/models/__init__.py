"""The tables: jobs, their leases and dependencies, workers, received messages, rules, rates."""

from aftercommit.models.dependency import Dependency
from aftercommit.models.flow import Rate, Slot
from aftercommit.models.job import FINISHED, LIVE, UNSUCCESSFUL, Blocked, Job, State
from aftercommit.models.lease import Lease
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
from aftercommit.models.worker import WorkerPresence

__all__ = [
    "FINISHED",
    "LIVE",
    "UNSUCCESSFUL",
    "Blocked",
    "Count",
    "Dependency",
    "Job",
    "Lease",
    "Name",
    "PartialIndex",
    "Rate",
    "Received",
    "Rule",
    "Slot",
    "State",
    "UniqueByBytes",
    "UniqueWhenSet",
    "UtcNow",
    "WorkerPresence",
]
