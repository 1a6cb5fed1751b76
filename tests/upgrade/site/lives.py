"""What the two versions do with the same jobs, by their stores alone."""

from datetime import timedelta
from uuid import UUID, uuid4

from aftercommit import values
from aftercommit.ids import new_job_id
from aftercommit.models import Job
from aftercommit.store import store_for
from aftercommit.values import Failed, NewJob, Released, Retry, RunError, Succeeded

STORE = store_for("default")
BROKEN = RunError(exception_class_path="builtins.ValueError", traceback="")
LONG, OVER = timedelta(hours=1), timedelta(seconds=-1)


def add():
    """Enqueue a job; return its id."""
    job = NewJob(id=new_job_id(), task_path="shop.tasks.plain", payload='{"args":[],"kwargs":{}}')
    STORE.insert([job])
    return job.id


def claim(job_id, worker_id=None, lease=LONG):
    """Claim a job, as either version does."""
    given = {
        "queue": "default",
        "limit": 1,
        "worker_id": worker_id or uuid4(),
        "lease": lease,
        "only": [job_id],
    }
    query = getattr(values, "ClaimQuery", None)  # version 0.1 has none
    (found,) = STORE.claim(**given) if query is None else STORE.claim(query(**given))
    return found


def end(outcome, job_id=None):
    """Claim a job and finish it; return its id."""
    job_id = job_id or add()
    assert STORE.finish(claim(job_id), outcome)
    return job_id


def cancelled(job_id=None):
    """Cancel a ready job; return its id."""
    job_id = job_id or add()
    STORE.cancel([job_id])
    return job_id


def cancelled_while_running(job_id=None):
    """Ask a run to stop, and release it; return its id."""
    job_id = job_id or add()
    held = claim(job_id)
    STORE.cancel([job_id])
    assert STORE.finish(held, Released())
    return job_id


def live():
    """Lead jobs to each of their states; return their ids with what they must be."""
    dead, silent = uuid4(), add()
    claim(silent, lease=OVER)
    lost = add()
    claim(lost, dead)
    jobs = {
        "ready": [add(), end(Retry(BROKEN)), end(Released()), lost, silent],
        "succeeded": [end(Succeeded()), *together(Succeeded())],
        "failed": [end(Failed(BROKEN)), *together(Failed(BROKEN))],
        "cancelled": [cancelled(), cancelled_while_running()],
    }
    STORE.rescue(max_crashes=3, dead_workers=[dead])
    jobs["ready"] += retry([end(Failed(BROKEN)), cancelled()])
    given_up = add()
    claim(given_up, dead)
    STORE.rescue(max_crashes=1, dead_workers=[dead])
    jobs["ready" if ready(given_up) else "failed"].append(given_up)
    running = add()
    claim(running)
    jobs["running"] = [running]
    return jobs


def leave():
    """Leave jobs for the other version, by what it is to do with them."""
    dead = uuid4()
    rescue = add()
    claim(rescue, dead)
    ends = {name: add() for name in ("succeed", "fail", "cancel", "release", "stop")}
    return {
        "dead": dead,
        "rescue": rescue,
        "retry": [end(Failed(BROKEN)), cancelled()],
        **ends,
    }


def take_over(dead, *ids):
    """Go on with the jobs that the other version has left."""
    rescue, failed, gone, succeed, fail, cancel, release, stop = map(UUID, ids)
    STORE.rescue(max_crashes=3, dead_workers=[UUID(dead)])
    return {
        "ready": [*retry([failed, gone]), end(Released(), release)],
        "running": [rescue],  # version 0.1 only rescues jobs with a lease of their own
        "succeeded": [end(Succeeded(), succeed)],
        "failed": [end(Failed(BROKEN), fail)],
        "cancelled": [cancelled(cancel), cancelled_while_running(stop)],
    }


def together(outcome):
    """Finish two jobs in one batch; return their ids."""
    held = [claim(add()) for _ in range(2)]
    STORE.finish_many([(one, outcome) for one in held])
    return [one.job_id for one in held]


def retry(job_ids):
    """Retry jobs; return their ids."""
    assert STORE.retry(job_ids).ready == set(job_ids)
    return job_ids


def ready(job_id):
    """Tell whether a job is ready."""
    return Job.objects.get(pk=job_id).state == "ready"


def wrong():
    """Return the jobs of this version's table whose flags are not what their state says."""
    return [
        (str(job.id), job.state, job.claimable, job.unsuccessful)
        for job in Job.objects.all()
        if job.claimable != (job.state == "ready")
        or job.unsuccessful != (job.state in ("failed", "cancelled"))
    ]


def claim_all():
    """Claim what is ready; return the ids."""
    query = values.ClaimQuery(queue="default", limit=1000, worker_id=uuid4(), lease=LONG)
    return [one.job_id for one in STORE.claim(query)]
