"""Whether a worker could do its work on a database: all of it is done, and rolled back."""

from datetime import timedelta
from uuid import uuid4

from django.db import OperationalError, transaction

from aftercommit.ids import new_job_id
from aftercommit.store.base import Store
from aftercommit.values import Claim, ClaimQuery, NewJob, Retry, RunError, Succeeded

TASK = "aftercommit.doctor"  # of a job that nobody else ever sees
LEASE = timedelta(minutes=1)
ERROR = RunError(exception_class_path="builtins.Exception", traceback="")


def rehearse(store: Store) -> None:
    """Enqueue a job, claim, renew and finish it, in a transaction that is rolled back.

    Raises the ``django.db.Error`` that a worker would meet: a missing right or column, a
    database that is read-only. Call it outside a transaction.
    """
    with transaction.atomic(using=store.alias, durable=True):
        worker_id = uuid4()
        store.workers.announce(worker_id, locked=False)
        job_id = new_job_id()
        queue = f"{TASK}.{job_id.hex}"
        store.insert([NewJob(id=job_id, task_path=TASK, payload="{}", queue=queue)])
        query = ClaimQuery(queue=queue, limit=1, worker_id=worker_id, lease=LEASE, only=[job_id])
        claim = _claim(store, query)
        store.renew([claim], lease=LEASE)
        store.finish(claim, Retry(ERROR, timedelta(0)))
        second = _claim(store, query)
        store.finish_many([(second, Succeeded())])
        store.end_leases([claim.lease_id, second.lease_id])
        store.workers.forget({worker_id})
        transaction.set_rollback(True, using=store.alias)


def _claim(store: Store, query: ClaimQuery) -> Claim:
    claims = store.claim(query)
    if not claims:
        raise OperationalError("A job that is due was not claimed.")
    return claims[0]
