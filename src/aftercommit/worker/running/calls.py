"""What the function of a task with ``batch_size`` receives."""

from collections.abc import Sequence
from dataclasses import replace

from aftercommit.enqueue.batches import BatchCall
from aftercommit.enqueue.results import running_result
from aftercommit.worker.running.context import JobContext
from aftercommit.worker.running.executor import Executor, PreparedRun
from aftercommit.worker.runs import Run


def calls_of(executor: Executor, prepared: Sequence[PreparedRun]) -> list[BatchCall]:
    """Return the calls of a batch, whose function is to be called by the first of the runs."""
    runs = [one.run for one in prepared]
    for run in runs:
        run.company = runs if len(runs) > 1 else ()
    # An exception of the function may tell those of any call, and each job keeps it.
    if secrets := tuple({text for run in runs for text in run.secrets}):
        for run in runs:
            run.secrets = secrets
    return [CallOfRun(one, executor, runs[0]) for one in prepared]


class CallOfRun(BatchCall):
    """One of the calls of a batch that a worker runs."""

    # Not a closure for each of them: there may be twenty thousand a second.
    __slots__ = ("_executor", "_first", "_prepared")

    def __init__(self, prepared: PreparedRun, executor: Executor, first: Run) -> None:
        self.args = prepared.args
        self.kwargs = prepared.kwargs
        self.attempt = prepared.run.claim.attempt
        self.end = None
        self._prepared = prepared
        self._executor = executor
        self._first = first

    @property
    def job_id(self) -> str:
        """See ``BatchCall``."""
        return str(self._prepared.run.claim.job_id)

    @property
    def context(self) -> JobContext:
        """See ``BatchCall``."""
        run = self._prepared.run
        result = self._prepared.result or running_result(run.claim, run.facts.task)
        made = self._executor.context(run, result, None)
        return replace(made, check=self._first.checkpoint)

    @property
    def cancelled(self) -> bool:
        """See ``BatchCall``."""
        run = self._prepared.run
        return run.cancel_requested or run.lost
