"""Jobs that are run in one call, as a thread of the pool does."""

from datetime import timedelta
from inspect import iscoroutinefunction

from aftercommit.enqueue.task import BuiltInTask
from aftercommit.worker.running.batches import Batches
from tests.worker.rig import at_work


def one(calls):
    """Stand for the function of a batch task."""


def batch_task(function, **options):
    """Return a task whose function gets lists of calls; it can be declared at any time."""

    def body(calls):
        return function(calls)

    async def abody(calls):
        return await function(calls)

    body = abody if iscoroutinefunction(function) else body
    body.__module__, body.__qualname__ = one.__module__, one.__qualname__
    given = {"batch_size": 100, "backoff": timedelta(0), **options}
    return BuiltInTask(
        path=f"{one.__module__}.one",
        func=body,
        backend="default",
        queue_name="default",
        priority=0,
        run_after=None,
        takes_context=False,
        **given,
    )


class Together:
    """Jobs that are run in one call."""

    def __init__(self, rig):
        self.rig = rig
        self.batches = Batches(rig.executor, rig.store)
        self.ids = []
        self.runs = []
        self.outcomes = []

    def hold(self, function, *, number=3, **options):
        """Enqueue and claim so many jobs; their arguments are 0, 1, 2 ..."""
        task = batch_task(function, **options)
        self.ids = [self.rig.enqueue_task(task.using(), one) for one in range(number)]
        self.runs = [self.rig.hold(self.rig.claim(job_id)) for job_id in self.ids]
        return self.runs

    def run(self, function=None, **options):
        """Run them, record their ends, and return their outcomes."""
        runs = self.runs if function is None else self.hold(function, **options)
        ends = self.batches.run(runs, at_work)
        assert [run for run, _result in ends] == list(runs)
        for run, result in ends:
            self.rig.finisher.put(run, result)
        self.rig.finish_whatever_happens()
        self.outcomes = [result.outcome for _run, result in ends]
        return self.outcomes

    @property
    def states(self):
        return [str(self.rig.job(job_id).state) for job_id in self.ids]

    @property
    def results(self):
        return [self.rig.job(job_id).return_value for job_id in self.ids]
