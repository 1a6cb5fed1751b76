"""What one worker does, as its supervisor sees it; asks no database."""

from collections.abc import Iterator, Mapping
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING

from aftercommit.tallies import CLAIMED, ENDS, RELEASED, RETRIED, Tally
from aftercommit.windows.metrics import names
from aftercommit.windows.metrics.families import Families, exposed
from aftercommit.worker.counts import Place
from aftercommit.worker.processes.report import WorkerReport

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family

OF_RUNS = (*ENDS, RETRIED, RELEASED)
COUNTERS = {RETRIED: names.WORKER_RETRIED, RELEASED: names.WORKER_RELEASED}


def text(
    report: WorkerReport | None, counts: Mapping[Place, Tally], *, ready: bool, accept: str = ""
) -> tuple[bytes, str]:
    """Return the metrics of a worker as text, and its content type."""
    return exposed(partial(collect, report, counts, ready=ready), accept=accept)


def collect(
    report: WorkerReport | None, counts: Mapping[Place, Tally], *, ready: bool
) -> "Iterator[Family]":
    """Yield the metrics of a worker; ``counts``: of all its processes since it was started."""
    families = Families(names.OF_WORKER)
    families.set(names.READY, value=ready)
    if report is not None:
        processes = report.processes
        families.set(names.PROCESSES, "ready", value=sum(one.ready for one in processes))
        families.set(names.PROCESSES, "missing", value=sum(not one.ready for one in processes))
        families.set(names.RUNNING, value=report.running)
        families.set(names.DONE, value=report.done)
        families.set(names.DEATHS, value=report.deaths)
        families.set(names.SILENCE, value=max((one.silent_for for one in processes), default=0))
        families.set(names.STUCK, value=max((one.stuck_for for one in processes), default=0))
    _counted(families, counts)
    yield from families


def _counted(families: Families, counts: Mapping[Place, Tally]) -> None:
    by_task: dict[tuple[str, str], Tally] = {}
    for (using, (task, queue, outcome)), tally in sorted(counts.items(), key=itemgetter(0)):
        if outcome == CLAIMED:
            families.set(names.WORKER_CLAIMED, using, queue, value=tally.jobs)
        elif outcome in ENDS:
            families.set(names.WORKER_ENDED, using, task, queue, outcome, value=tally.jobs)
        elif outcome in COUNTERS:
            families.set(COUNTERS[outcome], using, task, queue, value=tally.jobs)
        if outcome in OF_RUNS:
            by_task.setdefault((using, task), Tally()).merge(tally)
    for (using, task), tally in by_task.items():
        families.observe(names.WORKER_WAITS, using, task, times=tally.waits)
        families.observe(names.WORKER_RUNS, using, task, times=tally.runs)
