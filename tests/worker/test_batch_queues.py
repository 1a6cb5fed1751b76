"""How many jobs of a queue one thread takes."""

from types import SimpleNamespace

from aftercommit.worker.claiming.batch_queues import HELD, BatchQueues
from aftercommit.worker.facts import Batch

PLAIN = (None, SimpleNamespace(batch=None))


def of(size):
    return (None, SimpleNamespace(batch=Batch.of(size, None)))


def test_a_queue_of_batches_is_claimed_from_by_batches():
    queues = BatchQueues()
    assert (queues.size("mail"), queues.largest, queues.most(threads=4, held=0)) == (1, 1, None)

    queues.claimed("index", [of(500), of(100)])
    queues.claimed("mail", [PLAIN])

    assert (queues.size("index"), queues.size("mail"), queues.largest) == (100, 1, 100)
    assert queues.most(threads=4, held=100) == HELD + 400 - 100
    assert queues.most(threads=4, held=10_000) == 1


def test_a_job_of_another_kind_or_no_job_ends_that():
    queues = BatchQueues()
    queues.claimed("index", [of(500)])
    queues.claimed("index", [of(500), PLAIN])
    assert queues.size("index") == 1

    queues.claimed("index", [of(500)])
    queues.claimed("index", [])

    assert queues.size("index") == 1
    assert queues.most(threads=4, held=0) is None
