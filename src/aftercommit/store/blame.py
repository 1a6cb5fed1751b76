"""Whose fault it is that a worker process died, and when a job is given up for it."""

import json

from aftercommit.values import RunError

# An unexplained death costs a job a run; so many of them as one of which it is the cause.
DEATHS_FOR_EACH_BLAME = 10
PROCESS_CRASHED = "aftercommit.errors.ProcessCrashed"
WORKER_DIED = RunError(
    exception_class_path="aftercommit.errors.WorkerDied",
    traceback="The worker process died, or was silent for longer than its lease, "
    "while it ran this job.",
)


def process_crashed(how: str) -> RunError:
    """Return the error of a job that ran alone in a process that has died of itself."""
    return RunError(
        exception_class_path=PROCESS_CRASHED,
        traceback=f"The process that ran this job, and no other, died: {how}.",
    )


def is_given_up(errors: str, *, runs: int, crashes: int, max_crashes: int) -> bool:
    """Tell whether a job that has crashed once more fails for good.

    ``errors`` has an entry for each run that did not succeed, with the present one; ``runs``
    counts those since the job was enqueued, or retried by hand. The job is given up when it
    was the cause of ``max_crashes`` deaths, or on board at far more.
    """
    latest = json.loads(errors)[-runs:]
    blamed = sum(entry["exception_class_path"] == PROCESS_CRASHED for entry in latest)
    return blamed >= max_crashes or crashes >= max_crashes * DEATHS_FOR_EACH_BLAME
