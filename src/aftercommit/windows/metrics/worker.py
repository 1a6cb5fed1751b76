"""What one worker does, as its supervisor sees it; asks no database."""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from aftercommit.windows.metrics import names
from aftercommit.windows.metrics.families import Families, exposed
from aftercommit.worker.processes.report import WorkerReport

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric as Family


def text(report: WorkerReport | None, *, ready: bool, accept: str = "") -> tuple[bytes, str]:
    """Return the metrics of a worker as text, and its content type."""
    return exposed(partial(collect, report, ready=ready), accept=accept)


def collect(report: WorkerReport | None, *, ready: bool) -> "Iterator[Family]":
    """Yield the metrics of a worker."""
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
    yield from families
