"""How far a job is, in words for the visitor."""

from aftercommit.errors import ProcessCrashed, WorkerDied
from aftercommit.models import Job

WORKER_DIED, PROCESS_CRASHED = (
    f"{error.__module__}.{error.__qualname__}" for error in (WorkerDied, ProcessCrashed)
)


def progress_of(job: Job) -> str:
    """Say how far a job is; that its worker died is told, because it is no failure."""
    words = _words_for(job)
    if job.crashes:
        times = "once" if job.crashes == 1 else f"{job.crashes} times"
        words += f" (its worker died {times})"
    return words


def _words_for(job: Job) -> str:
    match job.state:
        case Job.State.READY:
            return _why_it_waits(job)
        case Job.State.RUNNING:
            return f"fetching, run {job.attempts}"
        case Job.State.SUCCEEDED:
            return "done" if job.attempts == 1 else f"done in run {job.attempts}"
        case _:
            runs = "1 run" if job.attempts == 1 else f"{job.attempts} runs"
            return f"gave up after {runs}: {_last_error(job)}"


def _why_it_waits(job: Job) -> str:
    errors = job.error_list
    if not errors:
        return "waiting"
    if errors[-1]["exception_class_path"] in {WORKER_DIED, PROCESS_CRASHED}:
        return "will run again"
    return f"{_last_error(job)}; will try again"


def _last_error(job: Job) -> str:
    """Return the last line of the last traceback, without the name of its class."""
    errors = job.error_list
    if not errors:
        return "no error was recorded"
    last_line: str = errors[-1]["traceback"].strip().rpartition("\n")[2]
    return last_line.partition(": ")[2] or last_line
