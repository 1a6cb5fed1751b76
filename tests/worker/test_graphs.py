"""Graphs in workers: they run to their end, and what an end has missed is found."""

import threading
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command

from aftercommit import Call, chain
from aftercommit._compat import tasks_signals
from aftercommit.models import Dependency, Job
from aftercommit.values import Succeeded
from aftercommit.worker.upkeep import graphs
from aftercommit.worker.upkeep.graphs import WaitingJobs
from tests.app.models import Effect
from tests.app.tasks import add, atomic_effect, committed_effect, echo, fail, plain_effect, total
from tests.databases import ALIASES
from tests.store.given import claim_one
from tests.worker.rig import work

pytestmark = pytest.mark.django_db(transaction=True, databases=ALIASES)


def diamond(effect) -> Call:
    """Return the last call of a graph of five."""
    first = effect.bind("first")
    middle = [effect.bind(f"middle {number}").after(first) for number in range(3)]
    return effect.bind("last").after(*middle)


@pytest.mark.parametrize("effect", [plain_effect, atomic_effect, committed_effect])
def test_a_worker_that_drains_runs_a_graph_to_its_end(effect):
    result = diamond(effect).enqueue()

    assert work() == 0

    result.refresh()
    assert result.state == "succeeded"
    order = list(Effect.objects.order_by("id").values_list("key", flat=True))
    assert (order[0], order[-1], len(order)) == ("first", "last", 5)
    assert not Dependency.objects.exists()


def test_flush_queue_runs_a_graph_to_its_end():
    result = total.bind([add.bind(1, 2), total.bind([add.bind(3, 4)])]).enqueue()

    call_command("flush_queue", stdout=StringIO())

    result.refresh()
    assert result.return_value == 10


def test_atomic_tasks_that_share_a_transaction_free_those_that_wait():
    many = [atomic_effect.bind(str(number)) for number in range(40)]
    result = atomic_effect.bind("last").after(*many).enqueue()

    work(threads=2)

    result.refresh()
    assert result.state == "succeeded"
    assert Effect.objects.count() == 41
    assert Effect.objects.order_by("id").last().key == "last"


def test_the_signal_of_django_is_sent_for_jobs_that_end_because_of_another_one():
    heard = []

    def listen(task_result, **_more):
        heard.append((task_result.task.name, task_result.state))

    tasks_signals.task_finished.connect(listen)
    try:
        chain(fail.using(max_attempts=1).bind("no"), add.bind(1, 2), echo.bind()).enqueue()
        work()
    finally:
        tasks_signals.task_finished.disconnect(listen)

    assert sorted(heard) == [("add", "cancelled"), ("echo", "cancelled"), ("fail", "failed")]


def test_the_worker_that_has_ended_a_job_claims_those_that_it_has_freed_at_once(store):
    rang = threading.Event()
    store.freed = rang.set
    chain(add.bind(1, 2), add.bind(3, 4)).enqueue()

    store.finish(claim_one(store), Succeeded())

    assert rang.is_set()


def missed():
    """Return a job that waits although what it needs has ended."""
    before, after = add.bind(1, 2), add.bind(3, 4)
    result = after.after(before).enqueue()
    needed = Job.objects.get(claimable=True)
    now = needed.run_after
    Job.objects.filter(id=needed.id).update(state="succeeded", claimable=False, finished_at=now)
    return result


def test_what_was_missed_is_found_by_the_sweep_of_a_worker(store):
    result = missed()

    WaitingJobs(store, news=lambda: None).step()

    assert Job.objects.get(id=result.id).claimable


def test_what_was_missed_is_found_by_flush_queue():
    result = missed()

    call_command("flush_queue", stdout=StringIO())

    result.refresh()
    assert result.state == "succeeded"


def test_the_walk_goes_on_where_it_has_ended_and_is_rare_without_edges(store, monkeypatch):
    monkeypatch.setattr(graphs, "MOST_EDGES", 2)
    monkeypatch.setattr(graphs, "PAUSE", 0)
    waiting = WaitingJobs(store, news=lambda: None)
    assert waiting.step() > graphs.SWEEP_EVERY
    chain(*(add.bind(1, 2) for _number in range(4))).enqueue()
    waiting._next_sweep = 0

    waits = [waiting.step(), waiting.step()]

    assert waits[0] == timedelta(0)
    assert timedelta(0) < waits[1] <= graphs.SWEEP_EVERY
