"""The metrics: their names, types, labels and meanings. The reference is checked against this."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

Kind = Literal["gauge", "counter", "histogram"]


class Metric(NamedTuple):
    """A metric as Prometheus knows it; a counter's name ends with ``_total``."""

    name: str
    kind: Kind
    labels: Sequence[str]
    help: str


DATABASE = ("database",)
BY_QUEUE = ("database", "queue")
BY_TASK = ("database", "task", "queue")
BY_BROKER = ("database", "broker")

# Of a database: what every process that asks it reports alike.
UP = Metric("aftercommit_up", "gauge", DATABASE, "Whether the database has answered: 1, or 0")
JOBS = Metric(
    "aftercommit_jobs",
    "gauge",
    ("database", "state"),
    "Jobs in the table; an estimate above 10,000",
)
QUEUE_JOBS = Metric(
    "aftercommit_queue_jobs",
    "gauge",
    ("database", "queue", "state"),
    "Jobs of a queue that have not ended: due, later, running, held back; counted up to 10,000",
)
OLDEST = Metric(
    "aftercommit_queue_oldest_due_age_seconds",
    "gauge",
    BY_QUEUE,
    "For how long the oldest due job has been waiting; 0 if none is due",
)
WORKERS = Metric(
    "aftercommit_workers", "gauge", DATABASE, "Worker processes that were alive a moment ago"
)
KEPT = Metric(
    "aftercommit_relay_kept_messages",
    "gauge",
    BY_BROKER,
    "Messages that wait to be published; counted up to 10,000",
)
LAG = Metric(
    "aftercommit_relay_lag_seconds",
    "gauge",
    BY_BROKER,
    "For how long the oldest message has been waiting to be published; 0 without any",
)
PRUNED_AT = Metric(
    "aftercommit_prune_last_timestamp_seconds",
    "gauge",
    DATABASE,
    "When a worker last looked for jobs to delete; absent if none that is here has",
)
OVERDUE = Metric(
    "aftercommit_schedule_overdue_seconds",
    "gauge",
    DATABASE,
    "For how long the first moment of a schedule that nobody has decided about is past",
)
CLAIMED = Metric(
    "aftercommit_jobs_claimed_total", "counter", BY_QUEUE, "Jobs that workers have claimed"
)
ENDED = Metric(
    "aftercommit_jobs_ended_total",
    "counter",
    (*BY_TASK, "outcome"),
    "Jobs that have ended by a run: succeeded, failed for good, or cancelled",
)
RETRIED = Metric(
    "aftercommit_runs_retried_total",
    "counter",
    BY_TASK,
    "Runs that failed and whose job was to be tried again",
)
RELEASED = Metric(
    "aftercommit_runs_released_total",
    "counter",
    BY_TASK,
    "Runs that do not count: at a shutdown, by a snooze, after a conflict",
)
RESCUED = Metric(
    "aftercommit_runs_rescued_total",
    "counter",
    BY_TASK,
    "Runs that were taken from a dead or silent worker",
)
WAITS = Metric(
    "aftercommit_job_wait_seconds",
    "histogram",
    ("database", "task"),
    "For how long jobs had been due when they were claimed",
)
RUNS = Metric(
    "aftercommit_job_run_seconds",
    "histogram",
    ("database", "task"),
    "How long the bodies of tasks ran, however they ended",
)
PRUNED = Metric(
    "aftercommit_jobs_pruned_total", "counter", DATABASE, "Ended jobs that were deleted by age"
)
LATENESS = Metric(
    "aftercommit_schedule_lateness_seconds",
    "histogram",
    DATABASE,
    "How late the jobs of schedules were made",
)

OF_DATABASE: tuple[Metric, ...] = (
    *(UP, JOBS, QUEUE_JOBS, OLDEST, WORKERS, KEPT, LAG, PRUNED_AT, OVERDUE),
    *(CLAIMED, ENDED, RETRIED, RELEASED, RESCUED, WAITS, RUNS, PRUNED, LATENESS),
)

# Of one worker, on its own port.
READY = Metric(
    "aftercommit_worker_ready", "gauge", (), "Whether all processes of this worker claim jobs"
)
PROCESSES = Metric(
    "aftercommit_worker_processes",
    "gauge",
    ("state",),
    "Processes of this worker: ready, or missing (none, or one that starts)",
)
RUNNING = Metric(
    "aftercommit_worker_running_jobs",
    "gauge",
    (),
    "Jobs that this worker has claimed and whose outcome is not written",
)
DONE = Metric(
    "aftercommit_worker_runs_total",
    "counter",
    (),
    "Runs that this worker has recorded since it was started",
)
DEATHS = Metric(
    "aftercommit_worker_process_deaths_total",
    "counter",
    (),
    "Processes of this worker that did not end in good order",
)
SILENCE = Metric(
    "aftercommit_worker_silence_seconds",
    "gauge",
    (),
    "For how long the most silent process of this worker has shown no sign of life",
)
STUCK = Metric(
    "aftercommit_worker_stuck_seconds",
    "gauge",
    (),
    "For how long a thread of this worker has hung, mostly in a database that does not answer",
)

# By task, of this worker only; not to be added to what a database reports of all of them.
WORKER_CLAIMED = Metric(
    "aftercommit_worker_jobs_claimed_total",
    "counter",
    BY_QUEUE,
    "Jobs that this worker has claimed",
)
WORKER_ENDED = Metric(
    "aftercommit_worker_jobs_ended_total",
    "counter",
    (*BY_TASK, "outcome"),
    "Jobs that have ended by a run here: succeeded, failed for good, or cancelled",
)
WORKER_RETRIED = Metric(
    "aftercommit_worker_runs_retried_total",
    "counter",
    BY_TASK,
    "Runs here that failed and whose job was to be tried again",
)
WORKER_RELEASED = Metric(
    "aftercommit_worker_runs_released_total",
    "counter",
    BY_TASK,
    "Runs here that do not count: at a shutdown, by a snooze, after a conflict",
)
WORKER_WAITS = Metric(
    "aftercommit_worker_job_wait_seconds",
    "histogram",
    ("database", "task"),
    "For how long jobs had been due when this worker claimed them",
)
WORKER_RUNS = Metric(
    "aftercommit_worker_job_run_seconds",
    "histogram",
    ("database", "task"),
    "How long the bodies of tasks ran here, however they ended",
)

OF_WORKER: tuple[Metric, ...] = (
    *(READY, PROCESSES, RUNNING, DONE, DEATHS, SILENCE, STUCK),
    *(WORKER_CLAIMED, WORKER_ENDED, WORKER_RETRIED, WORKER_RELEASED, WORKER_WAITS, WORKER_RUNS),
)
