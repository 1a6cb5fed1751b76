"""Several jobs of one task in one call, for tasks that are made for it: see ``BatchTask``."""

from collections.abc import Sequence
from typing import Any

from aftercommit.tasks import BatchTask, Many
from aftercommit.values import Ran, Succeeded
from aftercommit.worker.executor import Executor, Work, drop_connections
from aftercommit.worker.runs import AtWork, Run


class Batching:
    """Runs what has waited together, as one call; each job ends by itself."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor

    def may_join(self, run: Run) -> bool:
        """Tell whether a run's task can do several at once."""
        try:
            return self._many_of(run) is not None
        except Exception:
            return False  # running it will tell why it cannot be run

    def run(self, runs: Sequence[Run], at_work: AtWork) -> list[tuple[Run, Ran]]:
        """Run all of them to their ends, which need not be the same. Never raises."""
        prepared = [(run, self._executor.prepare(run)) for run in runs]
        ends = {run: work for run, work in prepared if isinstance(work, Ran)}
        works = [work for _run, work in prepared if not isinstance(work, Ran)]
        for many in dict.fromkeys(self._many_of(work.run) for work in works):
            theirs = [work for work in works if self._many_of(work.run) is many]
            if many is not None:
                with at_work([work.run for work in theirs]):
                    ends |= self._call(many, theirs)
        return [(run, ends[run]) for run in runs]

    def _call(self, many: Many, works: Sequence[Work]) -> dict[Run, Ran]:
        ends: dict[Run, Ran] = {}

        def told(number: int, error: BaseException | None, value: Any = None) -> None:
            work = works[number]
            ends[work.run] = self._end(work, error, value)

        first = works[0]  # an interrupt of it is one of all
        arguments: list[Any] = [[work.kwargs for work in works], told]
        error: BaseException = RuntimeError("the task did not say how this job has ended")
        try:
            first.run.body(many, arguments, timeout=first.known.policy.timeout)
        except BaseException as raised:
            error = raised
        if first.run.interrupted_at is not None:
            drop_connections()
        return {work.run: ends.get(work.run) or self._end(work, error) for work in works}

    def _end(self, work: Work, error: BaseException | None, value: Any = None) -> Ran:
        if error is None:
            result = "null" if value is None else work.known.dump(value)
            return Ran(outcome=Succeeded(result))
        return self._executor.ended_by(error, work)

    def _many_of(self, run: Run) -> Many | None:
        task = self._executor.task_of(run)
        return task.many if isinstance(task, BatchTask) else None
