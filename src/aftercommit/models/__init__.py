"""The tables: jobs, worker processes that are alive, messages that were received."""

from aftercommit.models.job import FINISHED, LIVE, Job, State
from aftercommit.models.portable import PartialIndex, UniqueWhenSet
from aftercommit.models.received import Received
from aftercommit.models.worker import WorkerPresence

__all__ = [
    "FINISHED",
    "LIVE",
    "Job",
    "PartialIndex",
    "Received",
    "State",
    "UniqueWhenSet",
    "WorkerPresence",
]
