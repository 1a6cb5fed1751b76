"""Several jobs of a ``BatchTask`` in one call."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from aftercommit.enqueue.task import Many
from aftercommit.values import RunResult
from aftercommit.worker.facts import AtWork
from aftercommit.worker.frames import clear_frames
from aftercommit.worker.running.executor import (
    Executor,
    PreparedRun,
    drop_connections,
    in_context,
)
from aftercommit.worker.runs import Run


class BatchTasks:
    """Runs the waiting jobs of a batch task in one call; each job has its own outcome."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def accepts(self, run: Run) -> bool:
        """Return whether a run's task can do several jobs in one call."""
        return run.facts.many is not None

    def run(self, runs: Sequence[Run], at_work: AtWork) -> list[tuple[Run, RunResult]]:
        """Run all jobs; their results need not be the same. Never raises."""
        prepared = [(run, self._executor.prepare(run)) for run in runs]
        results = {run: one for run, one in prepared if isinstance(one, RunResult)}
        calls: dict[Many | None, list[PreparedRun]] = {}
        for _run, one in prepared:
            if not isinstance(one, RunResult):
                calls.setdefault(one.run.facts.many, []).append(one)
        for many, theirs in calls.items():
            if many is not None:
                # The other threads may have other jobs, however long this call takes.
                together = theirs[0].run.owner.in_one_thread(len(theirs))
                with together, at_work([one.run for one in theirs]):
                    results |= self._call(many, theirs)
        return [(run, results[run]) for run in runs]

    def _call(self, many: Many, calls: Sequence[PreparedRun]) -> dict[Run, RunResult]:
        results: dict[Run, RunResult] = {}

        def report(number: int, error: BaseException | None, value: Any = None) -> None:
            prepared = calls[number]
            results[prepared.run] = self._result(prepared, error, value)

        first = calls[0].run  # an interrupt of this run ends the call for all
        for one in calls:
            one.run.in_company = len(calls) > 1
        arguments: list[Any] = [[one.kwargs for one in calls], report]
        error: BaseException = RuntimeError("the task did not report how this job ended")
        try:
            call = partial(first.body, many, arguments, timeout=first.facts.policy.timeout)
            in_context(first, call)
        except BaseException as raised:
            error = raised
        results = {one.run: results.get(one.run) or self._result(one, error) for one in calls}
        for result in results.values():
            if result.exception is not None:
                clear_frames(result.exception)
        if first.interrupted_at is not None:
            drop_connections()
        return results

    def _result(
        self, prepared: PreparedRun, error: BaseException | None, value: Any = None
    ) -> RunResult:
        if error is not None:
            return self._executor.ended_by(error, prepared)
        try:
            text = "null" if value is None else prepared.run.facts.dump(value)
        except BaseException as unstorable:  # of this job alone
            return self._executor.ended_by(unstorable, prepared)
        return RunResult(outcome=prepared.run.facts.success(text))
