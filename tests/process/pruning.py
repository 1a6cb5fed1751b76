"""Loaded into workers by a test: they prune all the time, in small batches, with an archive.

The archive notes what it gets, and may stand still in the middle of its work.
"""

import os
from datetime import timedelta
from threading import Event

from aftercommit.worker.upkeep import pruner
from tests.app.notes import note, pass_gate
from tests.process.archives import STANDS_STILL, TAKES

pruner.LOOK_EVERY = timedelta(seconds=0.05)
pruner.WHOLE_PASS_EVERY = timedelta(seconds=2)  # rows that somebody had locked are met again
pruner.BATCH = pruner.BATCH_TO_ARCHIVE = 5


def archive(jobs):
    """Keep what is deleted: as notes."""
    ids = [str(one.id) for one in jobs]
    note("archiving", ids=ids)
    if gate := os.environ.get(STANDS_STILL):
        pass_gate(gate)
    Event().wait(float(os.environ.get(TAKES, "0")))
    note("archived", ids=ids, states=sorted({one.state for one in jobs}))
