"""Runs on their way through the middleware, as Django's middleware stands around a request.

It stands outside the transaction of an atomic task, and sees COMMIT fail. The outcome of a run
belongs to its task: middleware may refuse a run, or replace an exception by raising another one,
but neither swallow one nor change what is recorded.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from aftercommit.errors import MiddlewareError
from aftercommit.middleware import JobRun
from aftercommit.safe_log import log_error
from aftercommit.stored import read_headers
from aftercommit.values import Cancelled, Failed, Released, RunResult, Succeeded
from aftercommit.worker.frames import clear_frames
from aftercommit.worker.middleware import Middleware
from aftercommit.worker.running.failure import has_a
from aftercommit.worker.running.masking import hidden
from aftercommit.worker.running.outcome import NOT_AGAIN
from aftercommit.worker.runs import Run

Results = dict[Run, RunResult]
Judge = Callable[[BaseException, Run], RunResult]  # the result of a run that raised it


class Begun(Protocol):
    """A run with its arguments, see ``PreparedRun``."""

    @property
    def run(self) -> Run: ...
    @property
    def args(self) -> list[Any]: ...
    @property
    def kwargs(self) -> dict[str, Any]: ...


class Passage:
    """One way of a call through the middleware, to the function of a task and back."""

    def __init__(
        self,
        prepared: Sequence[Begun],
        *,
        using: str,
        call: Callable[[], Any],
        judge: Judge,
        failure: Callable[[], BaseException | None] = lambda: None,
    ) -> None:
        self.results: Results | None = None  # None: the task was not called; of runs: see JobRun
        self._runs: list[Run] = [one.run for one in prepared]
        self._call = call
        self._judge = judge
        self._failure = failure  # why a batch has no results yet, and is called again in halves
        self._entered = False
        self._raised: BaseException | None = None  # in the middleware, by ``_answer``
        enter = self._aenter if self._runs[0].facts.is_async else self._enter
        self._seen: list[JobRun] = []
        for one in prepared:
            self._seen.append(self._seen_as(one, using, enter))

    def go(self) -> Results:
        """Return the results of the runs, which never raise."""
        try:
            self._middleware(self._seen[0])
        except BaseException as error:
            return self._settled(error)
        return self._settled(None)

    async def ago(self) -> Results:
        """See ``go``; on the event loop."""
        try:
            await self._middleware(self._seen[0])
        except BaseException as error:
            return self._settled(error)
        return self._settled(None)

    @property
    def _middleware(self) -> Middleware:
        found = self._runs[0].facts.middleware
        if found is None:
            raise TypeError("These runs have no middleware.")
        return found

    def _seen_as(self, one: Begun, using: str, enter: Callable[[], Any]) -> JobRun:
        run: Run = one.run
        return JobRun(
            task=run.facts.task,
            claim=run.claim,
            headers=read_headers(run.claim.headers),
            using=using,
            args=tuple(one.args),
            kwargs=dict(one.kwargs),
            _result=partial(self._result, run),
            _others=self._seen,
            _enter=enter,
        )

    def _result(self, run: Run) -> RunResult | None:
        return None if self.results is None else self.results.get(run)

    def _enter(self) -> Any:
        self._begin()
        self.results = self._call()
        return self._answer()

    async def _aenter(self) -> Any:
        self._begin()
        self.results = await self._call()
        return self._answer()

    def _begin(self) -> None:
        if self._entered:
            raise MiddlewareError(
                task_path=self._runs[0].claim.task_path,
                problem="has called get_result(run) twice",
                effect="The second call was refused: the task has run once.",
            )
        self._entered = True

    def _answer(self) -> Any:
        """Return to the middleware what the task has returned, or raise what it has raised."""
        found = list((self.results or {}).values())
        if (error := _common_error(found) if found else self._failure()) is not None:
            self._raised = error
            raise error
        outcome = found[0].outcome if len(found) == 1 else None
        if not isinstance(outcome, Succeeded) or outcome.result == "null":
            return None
        return outcome.value

    def _settled(self, error: BaseException | None) -> Results:
        if error is None and not self._entered:
            error = MiddlewareError(
                task_path=self._runs[0].claim.task_path,
                problem="has returned without having called get_result(run)",
                effect="The task has not run, so the job has not succeeded.",
            )
        results, self.results = self.results or {}, None
        if error is None or error is self._raised or (self._entered and not results):
            return results
        return {run: self._settle(run, results.get(run), error) for run in self._runs}

    def _settle(self, run: Run, result: RunResult | None, error: BaseException) -> RunResult:
        if result is None or not _stands(result):
            return self._judge(error, run)
        clear_frames(error)
        log_error(
            "Job %s: middleware raised after the run, which does not change its outcome",
            run.claim.job_id,
            error=hidden(error, run.secrets) if run.secrets else error,
        )
        return result


def _common_error(results: Sequence[RunResult]) -> BaseException | None:
    """Return what all runs of a call have raised; None if there is one that has not."""
    first = results[0].exception
    return first if all(one.exception is first for one in results) else None


def _stands(result: RunResult) -> bool:
    """Return whether the end of a run is decided, whatever middleware raises afterwards.

    It is recorded, or may be, or the worker has decided it, or the kind of its exception.
    """
    if result.recorded or result.in_doubt is not None:
        return True
    if isinstance(result.outcome, (Released, Cancelled)):
        return True
    error = result.exception
    return isinstance(result.outcome, Failed) and error is not None and has_a(error, NOT_AGAIN)
