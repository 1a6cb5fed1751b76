"""What a worker asks for graphs and schedules while there are none."""

from aftercommit.worker.upkeep.graphs import SWEEP_EVERY, SWEEP_RARELY, WaitingJobs
from aftercommit.worker.upkeep.schedules import LOOK_EVERY, LOOK_RARELY, Scheduler
from tests.store.callers import statements
from tests.store.graphs import graph


def read(sent):
    """Return the statements without those of a connection that is opened."""
    return [sql for sql, _given in sent if sql.startswith("SELECT")]


def test_without_jobs_that_wait_it_is_a_statement_in_half_a_minute(store):
    waiting = WaitingJobs(store, news=lambda: None)

    with statements() as sent:
        pause = waiting.step()

    assert len(read(sent)) == 1
    assert SWEEP_EVERY < pause <= SWEEP_RARELY


def test_with_some_it_is_two_in_a_second_whatever_they_wait_for(store):
    graph(store, {"a": "", "b": "a", "c": "ab"})
    waiting = WaitingJobs(store, news=lambda: None)

    with statements() as sent:
        pause = waiting.step()

    assert len(read(sent)) == 2
    assert pause <= SWEEP_EVERY


def test_without_schedules_it_is_a_statement_in_a_minute(store):
    schedules = Scheduler(store, news=lambda: None)
    schedules.step()  # which looks for what this process declares
    schedules.look_soon()

    with statements() as sent:
        pause = schedules.step()

    assert len(read(sent)) == 1
    assert LOOK_EVERY < pause <= LOOK_RARELY
