"""``assert_effects_once()``: what a task leaves behind if its worker dies in the middle of it."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from typing import Any
from uuid import UUID, uuid4

from django.db import connections, transaction

from aftercommit.errors import ConfigurationError
from aftercommit.options.worker import WorkerConfig
from aftercommit.store import store_for
from aftercommit.testing.crash import Crasher, SimulatedCrash
from aftercommit.testing.jobs import ids_of_jobs
from aftercommit.testing.running import Running
from aftercommit.testing.snapshot import Snapshot, models_of, snapshot
from aftercommit.testing.transactions import as_in_production, usable_aliases
from aftercommit.under_test import refuse_without_test_run
from aftercommit.worker.config import served

MOST_POINTS = 500
AGAIN = "exceptions when it is run again"
NEVER_BLAMED = 1_000_000  # crashes; the job runs again after each of ours


def assert_effects_once(
    task: Any,
    *args: Any,
    outside: Mapping[str, list[Any]] | None = None,
    ignore: Collection[str] = (),
    **kwargs: Any,
) -> None:
    """Assert that a task that is run again after a crash leaves what one run leaves.

    It is enqueued with these arguments and run by a worker that dies, as by ``kill -9``, before
    and after each of its statements in turn, COMMIT among them; what is not committed is rolled
    back. Then it is rescued and run again, and all is compared with a run without a crash. The
    first point after which anything is different is reported. A task with ``atomic=True``
    passes, a plain one that inserts a row does not.

    Compared are the rows of all tables of installed models in the databases that the test may
    use, at most 10,000, and the jobs that the task has enqueued. Not compared are columns that
    also differ between two runs without a crash (keys from a sequence, random tokens); of moments
    only whether they are set; and what ``ignore`` names: a table, or ``table.column``.
    ``outside``: lists to which fakes of a provider append, by names for the report, such as
    ``{"mail": mail.outbox}``. Each is emptied to what it was before each run.

    All of it takes place in savepoints, in a ``TestCase`` and in a ``TransactionTestCase``, and
    nothing is left. So other connections do not take part: a task that starts threads
    with connections of their own, or executes DDL on MySQL, cannot be tested so.

    Raises ``AssertionError`` with the point and the differences; what the task raises in a run
    without a crash; ``ConfigurationError`` for more than 500 points or 10,000 rows, or if no test
    run is on.
    """
    __tracebackhide__ = True
    refuse_without_test_run("assert_effects_once()")
    with _undone() as aliases:
        trial = _Trial(aliases, outside or {}, ignore)
        job_id = trial.enqueue(task, args, kwargs)
        first, points = trial.run(job_id)
        noise = first.differing_columns(trial.run(job_id)[0])
        for number, point in enumerate(points):
            found, _points = trial.run(job_id, crash_at=number)
            if differences := list(first.differences(found, without=noise)):
                raise AssertionError(_failure(task, number, point, points, differences))


@contextmanager
def _undone() -> Iterator[list[str]]:
    """Undo all that the block does in the databases that the test may use."""
    aliases = usable_aliases()
    with ExitStack() as stack:
        for alias in aliases:
            block: Any = transaction.atomic(using=alias)
            # Whatever is open around: the test's, which is none that production has.
            block._from_testcase = True
            stack.enter_context(block)
            stack.callback(transaction.set_rollback, True, using=alias)
        yield aliases


class _Trial:
    """Runs one job again and again, each time from the same state."""

    def __init__(
        self, aliases: list[str], outside: Mapping[str, list[Any]], ignore: Collection[str]
    ) -> None:
        self._aliases = aliases
        self._serving = [one for one in served(WorkerConfig()) if one.using in aliases]
        self._tables = {alias: list(models_of(alias)) for alias in aliases}
        self._outside = outside
        self._ignore = ignore
        self._before = {name: list(seen) for name, seen in outside.items()}
        self._others: set[UUID] = set()  # jobs that the test has enqueued before

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> UUID:
        result = task.enqueue(*args, **kwargs)
        self._others = ids_of_jobs()
        return UUID(str(result.id))

    def run(self, job_id: UUID, *, crash_at: int | None = None) -> tuple[Snapshot, list[str]]:
        """Run the job, with a crash or without; return what is there then, and its points."""
        with self._from_here():
            raised: list[Any] = []
            crasher = Crasher(crash_at)
            worker_id = uuid4()
            here = as_in_production(step=crasher.step)
            with here, suppress(SimulatedCrash), crasher.watching(self._aliases):
                self._work(job_id, worker_id, crasher)
            if crash_at is not None:
                raised = self._run_again(job_id, worker_id)
            if len(crasher.points) > MOST_POINTS:
                raise ConfigurationError(
                    f"assert_effects_once() tries {MOST_POINTS} points at most, and this run has "
                    f"{len(crasher.points):,}. Fix: pass arguments for which the task does less."
                )
            seen = {**self._outside, AGAIN: raised}
            found = snapshot(self._tables, but=self._others, ignore=self._ignore, outside=seen)
            return found, crasher.points

    def _run_again(self, job_id: UUID, dead: UUID) -> list[Any]:
        """Rescue the job and run it; return what it raises."""
        with as_in_production():
            self._rescue(dead)
            try:
                self._work(job_id, uuid4())
            except Exception as error:
                return [error]
        return []

    @contextmanager
    def _from_here(self) -> Iterator[None]:
        """Go back afterwards to what is there now."""
        points: list[tuple[str, Any]] = [
            (one, connections[one].savepoint()) for one in self._aliases
        ]
        try:
            yield
        finally:
            for alias, point in reversed(points):
                connections[alias].savepoint_rollback(point)
                connections[alias].savepoint_commit(point)
            for name, seen in self._outside.items():
                seen[:] = self._before[name]

    def _work(self, job_id: UUID, worker_id: UUID, crasher: Crasher | None = None) -> None:
        running = Running(self._serving, None, worker_id=worker_id)
        if crasher is not None:
            running.claimed = crasher.arm
        running.run_job(job_id)

    def _rescue(self, worker_id: UUID) -> None:
        for alias in self._aliases:
            store = store_for(alias)
            store.rescue(max_crashes=NEVER_BLAMED, dead_workers=[worker_id], silent=False)


def _failure(
    task: Any, number: int, point: str, points: list[str], differences: list[str]
) -> str:
    lines = "\n".join(differences)
    return (
        f"{task.module_path}: its worker dies {point} (point {number + 1} of {len(points)}), the "
        f"job runs again, and there is another state than after one run:\n{lines}\n"
        "Fix: declare it with atomic=True, write the effects in context.commit(), or let it look "
        "for what an earlier run has done; pass context.idempotency_key to a provider."
    )
