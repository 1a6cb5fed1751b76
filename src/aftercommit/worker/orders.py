"""From a run to the order that the pool is given: who runs it, alone or with others."""

from collections.abc import Callable, Iterable

from aftercommit.store.base import Store
from aftercommit.values import Ran
from aftercommit.worker.backlog import Order, Together
from aftercommit.worker.batching import Batching
from aftercommit.worker.executor import Executor, Started
from aftercommit.worker.fusing import Fusing
from aftercommit.worker.runs import Run
from aftercommit.worker.setup import Catalogue


class Orders:
    """Makes the orders of one database alias."""

    def __init__(
        self,
        store: Store,
        *,
        started: Started,
        ended: Callable[[Run, Ran, float], None],
        at_once: Callable[[], int],
    ) -> None:
        self.executor = Executor(
            using=store.alias,
            hold=store.hold,
            record=store.finish,
            task_of=Catalogue(),
            started=started,
            at_once=at_once,
        )
        self._batching = Batching(self.executor)
        self._fusing = Fusing(
            self.executor,
            using=store.alias,
            savepoint=store.savepoint,
            record_many=store.finish_many,
        )
        self._ended = ended

    def of(self, runs: Iterable[Run]) -> list[Order]:
        """Return an order for each run."""
        return [Order(run, self.executor, self._ended, self._company(run)) for run in runs]

    def _company(self, run: Run) -> Together:
        return self._batching if self._batching.may_join(run) else self._fusing
