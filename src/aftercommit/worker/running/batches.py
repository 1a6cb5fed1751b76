"""Several jobs of a task with ``batch_size`` in one call of its function."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from asgiref.sync import ThreadSensitiveContext

from aftercommit.enqueue.batches import BatchCall, End, take_returned
from aftercommit.store.base import Store
from aftercommit.values import RunResult
from aftercommit.worker.contexts import take_back
from aftercommit.worker.facts import AtWork
from aftercommit.worker.frames import clear_frames
from aftercommit.worker.running.atomic.batches import AtomicBatch
from aftercommit.worker.running.calls import calls_of
from aftercommit.worker.running.connections import close_async_connections, drop_connections
from aftercommit.worker.running.executor import (
    Executor,
    PreparedRun,
    in_context,
)
from aftercommit.worker.running.masking import hiding
from aftercommit.worker.running.passage import Passage
from aftercommit.worker.runs import Run

Results = dict[Run, RunResult]
SMALLER = 5  # bits: after each failed run a job has a 32nd of the company


class Batches:
    """Runs jobs of one task in one call; each job has its own outcome."""

    def __init__(self, executor: Executor, store: Store) -> None:
        self._executor = executor
        self._store = store

    def accepts(self, run: Run) -> bool:
        """Return whether a run may share its call."""
        return self.most(run) > 1

    def most(self, run: Run) -> int:
        """Return how many jobs may be in the call of a run.

        The smaller, the more often it has failed, and alone in its last attempt: a job that lets
        the whole call fail is soon by itself, and no other fails for good because of it.
        """
        claim, batch = run.claim, run.facts.batch
        if batch is None or claim.crashes:
            return 1
        if (failed := claim.failed_runs) <= 0:  # as most
            return batch.size
        last = failed + 1 >= claim.max_attempts
        return 1 if last else max(batch.size >> (SMALLER * failed), 1)

    def run(self, runs: Sequence[Run], at_work: AtWork) -> list[tuple[Run, RunResult]]:
        """Run jobs of the same task; their results need not be the same. Never raises."""
        results, ready = _divided(self._executor.prepare_together(runs))
        if ready:
            # The other threads may have other jobs, however long this call takes.
            with _together(ready), at_work([one.run for one in ready]):
                results |= self._run(ready)
        return [(run, hiding(run, results[run])) for run in runs]

    async def arun(self, runs: Sequence[Run], at_work: AtWork) -> list[tuple[Run, RunResult]]:
        """Run jobs of the same async task on the running event loop; see ``run``."""
        async with ThreadSensitiveContext():
            prepared = [(run, await self._executor.prepare_async(run)) for run in runs]
            results, ready = _divided(prepared)
            if ready:
                with _together(ready), at_work([one.run for one in ready]):
                    results |= await self._acall(ready)
        return [(run, hiding(run, results[run])) for run in runs]

    def _run(self, ready: Sequence[PreparedRun]) -> Results:
        first = ready[0].run
        if first.facts.policy.atomic:
            results = AtomicBatch(self._executor, self._store).run(ready)
        else:
            results = self._call(ready)
        in_context(first, take_back)
        for result in results.values():
            if result.exception is not None:
                clear_frames(result.exception)
        if any(one.run.interrupted_at is not None for one in ready):
            drop_connections()
        return results

    def _call(self, ready: Sequence[PreparedRun]) -> Results:
        first = ready[0].run
        self._executor.context_of_call(first)
        in_context(first, self._executor.begin_call, [one.run for one in ready])
        if first.facts.middleware is None:
            return self._call_task(ready, partial(in_context, first))
        passage = self._passage(ready, partial(self._call_task, ready, _here))
        return in_context(first, passage.go)

    def _passage(self, ready: Sequence[PreparedRun], call: Callable[[], Any]) -> Passage:
        by_run = {one.run: one for one in ready}
        return Passage(
            ready,
            using=self._executor.using,
            call=call,
            judge=lambda error, run: self._executor.ended_by(error, by_run[run]),
        )

    def _call_task(
        self, ready: Sequence[PreparedRun], inside: Callable[[Callable[[], Any]], Any]
    ) -> Results:
        first = ready[0].run  # an interrupt of this run ends the call for all
        calls = calls_of(self._executor, ready)
        error: BaseException | None = None
        try:
            timeout = first.facts.policy.timeout
            call = partial(first.body, first.facts.sync_function, [calls], timeout=timeout)
            returned = inside(call)
            take_returned(calls, returned, task_path=first.facts.task.module_path)
        except BaseException as raised:
            error = raised
        return self._results(ready, calls, error)

    async def _acall(self, ready: Sequence[PreparedRun]) -> Results:
        await self._executor.begin_call_async([one.run for one in ready])
        if ready[0].run.facts.middleware is None:
            return await self._acall_task(ready)
        return await self._passage(ready, partial(self._acall_task, ready)).ago()

    async def _acall_task(self, ready: Sequence[PreparedRun]) -> Results:
        first = ready[0].run
        calls = calls_of(self._executor, ready)
        error: BaseException | None = None
        raised: list[BaseException] = []
        try:
            call = partial(first.facts.task.func, calls)
            returned = await first.async_body(call, timeout=first.facts.policy.timeout)
            take_returned(calls, returned, task_path=first.facts.task.module_path)
        except BaseException as one:
            error = one
            raised.append(one)
        finally:
            await close_async_connections(raised)
        return self._results(ready, calls, error)

    def _results(
        self,
        ready: Sequence[PreparedRun],
        calls: Sequence[BatchCall],
        error: BaseException | None,
    ) -> Results:
        return {
            one.run: self._result(one, call.end or End(error))
            for one, call in zip(ready, calls, strict=True)
        }

    def _result(self, prepared: PreparedRun, end: End) -> RunResult:
        if end.error is not None:
            return self._executor.ended_by(end.error, prepared)
        try:
            return self._executor.returned(prepared, end.value)
        except BaseException as unstorable:  # of this job alone
            return self._executor.ended_by(unstorable, prepared)


def _here(call: Callable[[], Any]) -> Any:
    """Call it in the context that the caller is in."""
    return call()


def _divided(
    prepared: Sequence[tuple[Run, PreparedRun | RunResult]],
) -> tuple[Results, list[PreparedRun]]:
    """Return the results of those that cannot begin, and the others."""
    results = {run: one for run, one in prepared if isinstance(one, RunResult)}
    return results, [one for _run, one in prepared if not isinstance(one, RunResult)]


def _together(ready: Sequence[PreparedRun]) -> Any:
    runs = [one.run for one in ready]
    return runs[0].owner.in_one_thread(runs)
