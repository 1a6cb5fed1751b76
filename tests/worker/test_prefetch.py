"""How many jobs are prefetched, and the board that knows what runs."""

from uuid import uuid4

from aftercommit.worker.claiming.prefetch import FIRST_RUNS, MOST, Prefetch
from aftercommit.worker.in_flight import InFlight

THREADS = 4
SHORT, LONG = 0.001, 0.5  # seconds


def after(*seconds):
    """Return what is known after runs that took so long."""
    known = Prefetch(THREADS)
    for one in seconds:
        known.ran(one)
    return known


def test_nothing_is_prefetched_before_some_runs_were_seen():
    assert after(*[SHORT] * (FIRST_RUNS - 1)).jobs == 0
    assert after(*[SHORT] * FIRST_RUNS).jobs > 0


def test_it_is_what_the_threads_do_in_the_budget():
    assert after(*[SHORT] * 10).jobs == THREADS * 100


def test_it_has_an_end_however_short_the_jobs_are():
    assert after(*[0.0] * 10).jobs == MOST


def test_long_jobs_are_never_prefetched():
    assert after(*[LONG] * FIRST_RUNS).jobs == 0


def test_one_long_job_among_short_ones_is_noticed_at_once_and_forgotten_after_a_while():
    known = after(*[SHORT] * 100, 10 * LONG)
    assert known.jobs == 0

    for _ in range(100):
        known.ran(SHORT)

    assert known.jobs > 0


def test_a_board_names_the_jobs_that_run_and_nobody_else():
    worker, jobs = uuid4(), [uuid4() for _ in range(3)]
    memory = bytearray(InFlight.size(3))
    board = InFlight(memory)
    assert InFlight(memory).read() == (None, set())

    board.sign(worker)
    places = [board.enter(job) for job in jobs]
    assert InFlight(memory).read() == (worker, set(jobs))

    board.leave(places[1])
    assert InFlight(memory).read() == (worker, {jobs[0], jobs[2]})
    another = uuid4()
    board.enter(another)
    assert InFlight(memory).read() == (worker, {jobs[0], jobs[2], another})


def test_measured_anew_jobs_are_prefetched_as_soon_as_some_runs_have_ended():
    known = after(*[SHORT] * 100)

    known.measure_anew()
    assert known.jobs == 0
    for _ in range(FIRST_RUNS):
        known.ran(LONG)
    assert known.jobs == 0  # what was short before does not count

    known.measure_anew()
    for _ in range(FIRST_RUNS):
        known.ran(SHORT)
    assert known.jobs > 0


def test_a_run_may_end_while_another_thread_begins_to_measure_anew():
    class Reset(Prefetch):
        _runs = property(lambda self: 0, lambda self, number: None)

    Reset(threads=1).ran(0.5)
