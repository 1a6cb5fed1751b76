"""T6: jobs of dead and silent workers run again, and their old owners are fenced."""

from uuid import uuid4

import pytest
from django.db import connection, transaction

from aftercommit.models import Job, State
from aftercommit.store.blame import DEATHS_FOR_EACH_BLAME
from aftercommit.store.clock import in_future
from aftercommit.values import Ended, Released, Succeeded
from tests.store.callers import Held, answer, at_statement, statements
from tests.store.given import (
    ALREADY_OVER,
    LEASE,
    MOST_CRASHES,
    claim_all,
    claim_one,
    job,
    lease_of,
    locked,
    old_claim,
    ready_job,
    ready_jobs,
    state,
)


def rescue(store, **given):
    return store.rescue(**{"max_crashes": MOST_CRASHES, **given})


def test_a_job_whose_lease_is_over_is_ready_again_at_its_old_place(store):
    job_id = ready_job(store)
    claim = claim_one(store, lease=ALREADY_OVER)
    ready_job(store)

    (rescued,) = rescue(store)

    assert (rescued.job_id, rescued.worker_id) == (job_id, claim.worker_id)
    assert (rescued.task_path, rescued.crashes) == (claim.task_path, 1)
    assert rescued.state == "ready"
    row = job(store, job_id)
    assert (row.state, row.token, row.attempts, row.crashes) == (State.READY, 1, 1, 1)
    assert (row.worker_id, row.lease_until, row.run_after) == (None, None, claim.run_after)
    assert claim_one(store).job_id == job_id


def test_the_history_of_a_job_says_where_it_was_lost(store):
    ready_job(store)
    claim = claim_one(store, lease=ALREADY_OVER)

    rescue(store)

    (entry,) = job(store, claim.job_id).error_list
    assert entry["exception_class_path"] == "aftercommit.errors.WorkerDied"
    assert entry["worker_id"] == str(claim.worker_id)
    assert entry["claimed_at"] == claim.claimed_at.isoformat()


def test_a_job_whose_lease_lasts_is_left_alone(store):
    ready_job(store)
    claim = claim_one(store)

    assert rescue(store) == []

    assert store.finish(claim, Succeeded())


def test_a_dead_workers_jobs_are_rescued_although_their_lease_lasts(store):
    dead, alive = uuid4(), uuid4()
    ready_jobs(store, 5)
    lost = claim_all(store, limit=3, worker_id=dead)
    kept = claim_all(store, worker_id=alive)

    rescued = rescue(store, dead_workers=[dead])

    assert {one.job_id for one in rescued} == {claim.job_id for claim in lost}
    assert {one.worker_id for one in rescued} == {dead}
    assert [state(store, claim.job_id) for claim in kept] == ["running", "running"]


def test_leases_are_not_judged_by_one_who_was_out_of_contact(store):
    dead = uuid4()
    ready_jobs(store, 2)
    silent = claim_one(store, lease=ALREADY_OVER)
    of_dead = claim_one(store, worker_id=dead)

    assert rescue(store, silent=False) == []
    rescued = rescue(store, silent=False, dead_workers=[dead])

    assert [one.job_id for one in rescued] == [of_dead.job_id]
    assert state(store, silent.job_id) == "running"


def test_a_dead_workers_earlier_job_that_someone_else_runs_is_left_alone(store):
    dead = uuid4()
    ready_job(store)
    claim_one(store, worker_id=dead)
    rescue(store, dead_workers=[dead])
    current = claim_one(store)

    assert rescue(store, dead_workers=[dead]) == []
    assert store.finish(current, Succeeded())


def crash(store, job_id, *, times, blamed=False):
    """Let a job's worker die so often; return the states that the job was in then."""
    states = []
    for _crash in range(times):
        claim_one(store, lease=ALREADY_OVER)
        death = {job_id: "signal SIGSEGV"} if blamed else {}
        states += [one.state for one in rescue(store, blamed=death)]
    return states


def test_a_job_that_kills_its_process_again_and_again_is_given_up(store):
    job_id = ready_job(store, unique_key="key", max_attempts=20)

    states = crash(store, job_id, times=MOST_CRASHES, blamed=True)

    assert states == ["ready", "ready", "failed"]
    row = job(store, job_id)
    assert (row.state, row.crashes, row.unique_lock) == (State.FAILED, MOST_CRASHES, None)
    assert row.finished_at is not None
    assert len(row.error_list) == MOST_CRASHES
    entry = row.error_list[-1]
    assert entry["exception_class_path"] == "aftercommit.errors.ProcessCrashed"
    assert "signal SIGSEGV" in entry["traceback"]


def test_deaths_that_nobody_is_blamed_for_are_forgiven_much_longer(store):
    job_id = ready_job(store)
    most = MOST_CRASHES * DEATHS_FOR_EACH_BLAME

    states = crash(store, job_id, times=most)

    assert states == ["ready"] * (most - 1) + ["failed"]
    assert job(store, job_id).error_list[-1]["exception_class_path"] == (
        "aftercommit.errors.WorkerDied"
    )


def test_deaths_of_both_kinds_are_counted_apart(store):
    job_id = ready_job(store)

    states = [
        *crash(store, job_id, times=2, blamed=True),
        *crash(store, job_id, times=MOST_CRASHES),
        *crash(store, job_id, times=1, blamed=True),
    ]

    assert states == ["ready"] * (2 + MOST_CRASHES) + ["failed"]


def test_blame_for_one_job_is_none_for_its_neighbours(store):
    guilty, innocent = ready_jobs(store, 2)
    for _crash in range(MOST_CRASHES):
        claim_all(store, lease=ALREADY_OVER)
        rescue(store, blamed={guilty: "exit status 3"})

    assert (state(store, guilty), state(store, innocent)) == ("failed", "ready")


def test_a_retry_by_hand_forgives_everything(store):
    job_id = ready_job(store)
    crash(store, job_id, times=MOST_CRASHES, blamed=True)
    store.retry([job_id])

    states = crash(store, job_id, times=MOST_CRASHES, blamed=True)

    assert states == ["ready", "ready", "failed"]


def test_a_crash_is_no_failed_run(store):
    ready_job(store)
    claim_one(store, lease=ALREADY_OVER)
    rescue(store)

    again = claim_one(store)

    assert (again.attempt, again.crashes, again.failed_runs) == (2, 1, 0)


def test_a_job_that_shall_end_is_cancelled_instead_of_run_again(store):
    job_id = ready_job(store)
    claim_one(store, lease=ALREADY_OVER)
    store.cancel([job_id])

    (rescued,) = rescue(store)

    assert rescued.state == "cancelled"
    row = job(store, job_id)
    assert (row.state, row.unique_lock) == (State.CANCELLED, None)
    assert row.finished_at is not None


def test_one_call_rescues_no_more_than_its_limit_the_longest_lost_first(store):
    ready_jobs(store, 5)
    lost = [claim_one(store, lease=ALREADY_OVER * days) for days in (1, 5, 2, 4, 3)]

    first = rescue(store, limit=2)
    rest = rescue(store)

    assert {one.job_id for one in first} == {lost[1].job_id, lost[3].job_id}
    assert len(rest) == 3


def test_rows_in_hanging_transactions_do_not_hide_those_behind_them(store, new_caller, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    ready_jobs(store, 3)
    hanging = [claim_one(store, lease=ALREADY_OVER * 5) for _ in range(2)]
    behind = claim_one(store, lease=ALREADY_OVER)
    held = Held(new_caller(), lambda: locked(*(claim.job_id for claim in hanging)))
    rescuer = new_caller()

    begun = rescuer.start(rescue, store, limit=2)

    assert not rescuer.must_wait(begun)
    assert [one.job_id for one in answer(begun)] == [behind.job_id]
    held.commit()
    assert len(rescue(store)) == 2


def test_a_healthy_run_that_renews_or_ends_just_now_is_left_alone(store, other):
    ready_jobs(store, 2)
    renewing, ending = claim_all(store, lease=ALREADY_OVER)

    def wake_up():
        store.renew([renewing], lease=LEASE)
        store.finish(ending, Succeeded())

    with at_statement(1, lambda: other.do(wake_up)):
        rescued = rescue(store)

    assert rescued == []
    assert [state(store, claim.job_id) for claim in (renewing, ending)] == [
        "running",
        "succeeded",
    ]


def test_two_rescuers_count_a_crash_once(store, other):
    job_id = ready_job(store)
    claim_one(store, lease=ALREADY_OVER)
    theirs = []

    with at_statement(1, lambda: theirs.extend(other.do(rescue, store))):
        ours = rescue(store)

    assert (len(theirs), ours) == (1, [])
    assert job(store, job_id).crashes == 1


def test_a_lease_is_deleted_with_the_last_of_its_jobs(store):
    ready_jobs(store, 3)
    claims = claim_all(store, lease=ALREADY_OVER)

    first = rescue(store, limit=2)
    kept = lease_of(claims[0])
    rest = rescue(store)

    assert (len(first), len(rest)) == (2, 1)
    assert kept is not None
    assert lease_of(claims[0]) is None


def test_a_lease_stays_while_a_job_of_it_is_in_someones_transaction(store, new_caller, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    ready_jobs(store, 3)
    busy, *free = claim_all(store, lease=ALREADY_OVER)
    finishing = Held(new_caller(), lambda: store.finish(busy, Succeeded()))

    rescued = rescue(store)
    meanwhile = lease_of(busy)
    finishing.roll_back()
    again = rescue(store)

    assert {one.job_id for one in rescued} == {claim.job_id for claim in free}
    assert meanwhile is not None
    assert [one.job_id for one in again] == [busy.job_id]
    assert lease_of(busy) is None


def test_a_job_that_someone_else_has_claimed_is_not_taken_with_its_old_lease(store):
    ready_jobs(store, 3)
    claims = claim_all(store, lease=ALREADY_OVER)
    (first,) = rescue(store, limit=1)
    current = claim_one(store)

    rescued = rescue(store)

    assert current.job_id == first.job_id
    others = {claim.job_id for claim in claims} - {current.job_id}
    assert {one.job_id for one in rescued} == others
    assert store.finish(current, Succeeded())


def change_hands(store, claim, now):
    """Let a job be released by its owner and claimed by another one."""
    store.finish(claim, Released())
    now.append(claim_one(store, only=[claim.job_id]))


def test_a_job_that_changes_hands_just_now_is_not_taken(store, other, vendor):
    """Between the look at the jobs of a lease and the lock of their rows."""
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    ready_jobs(store, 2)
    changing, lost = claim_all(store, lease=ALREADY_OVER)
    current = []

    # The leases; one of them, locked; its jobs; their rows, locked.
    with at_statement(3, lambda: other.do(change_hands, store, changing, current)):
        rescued = rescue(store)

    assert [one.job_id for one in rescued] == [lost.job_id]
    assert lease_of(changing) is None
    assert store.finish(current[0], Succeeded())


# ---- beside workers of version 0.1 -------------------------------------------------


@pytest.mark.parametrize("how", ["silent", "dead"])
def test_jobs_that_version_0_1_has_claimed_are_rescued(store, how):
    lost, kept = ready_jobs(store, 2)
    dead, alive = uuid4(), uuid4()
    over = {"silent": ALREADY_OVER, "dead": LEASE}[how]
    old_claim(store, lost, lease=over, worker_id=dead)
    old_claim(store, kept, lease=LEASE, worker_id=alive)

    (rescued,) = rescue(store, dead_workers=[dead] if how == "dead" else [])

    assert (rescued.job_id, rescued.worker_id, rescued.crashes) == (lost, dead, 1)
    row = job(store, lost)
    assert (row.state, row.lease_until, row.worker_id) == (State.READY, None, None)
    assert [claim.job_id for claim in claim_all(store)] == [lost]
    assert state(store, kept) == State.RUNNING


def test_a_limit_counts_jobs_of_both_versions(store):
    *old, _new, _other = ready_jobs(store, 4)
    for job_id in old:
        old_claim(store, job_id, lease=ALREADY_OVER, worker_id=uuid4())
    claim_all(store, lease=ALREADY_OVER)

    assert [len(rescue(store, limit=3)) for _call in range(3)] == [3, 1, 0]


def test_an_old_claim_that_is_renewed_just_now_is_left_alone(store, other):
    job_id = ready_job(store)
    old_claim(store, job_id, lease=ALREADY_OVER, worker_id=uuid4())

    def renew():
        Job.objects.filter(id=job_id).update(lease_until=in_future(LEASE))

    # The leases; the jobs of version 0.1, without a lock.
    with at_statement(2, lambda: other.do(renew)):
        assert rescue(store) == []

    assert state(store, job_id) == State.RUNNING


def test_an_open_transaction_that_is_about_to_finish_decides(store, other, vendor):
    if vendor == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    job_id = ready_job(store)
    claim = claim_one(store, lease=ALREADY_OVER)
    finishing = Held(other, lambda: store.finish(claim, Succeeded()))

    meanwhile = rescue(store)

    finishing.commit()
    assert meanwhile == []
    assert state(store, job_id) == "succeeded"


@pytest.fixture
def attempts_table(vendor, transactional_db):
    """Make a table whose rows point at jobs, as a user's log of attempts would."""
    if vendor != "postgresql":
        pytest.skip("only PostgreSQL can lock a row so that pointing at it goes on")
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE attempt (job_id uuid REFERENCES aftercommit_job)")
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE attempt")


def point_at(job_id):
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO attempt VALUES (%s)", [job_id])


def test_a_job_that_a_hanging_transaction_points_at_is_rescued(store, attempts_table, new_caller):
    job_id = ready_job(store)
    claim_one(store, lease=ALREADY_OVER)
    hanging = Held(new_caller(), lambda: point_at(job_id))
    rescuer = new_caller()

    begun = rescuer.start(rescue, store)

    assert not rescuer.must_wait(begun)
    assert [one.job_id for one in answer(begun)] == [job_id]
    hanging.roll_back()


def test_a_job_that_an_open_transaction_points_at_goes_its_way(store, attempts_table, new_caller):
    job_id = ready_job(store)
    log = Held(new_caller(), lambda: point_at(job_id))
    worker = new_caller()

    claim = worker.do(claim_one, store)
    renewed = store.renew([claim], lease=LEASE).held
    finishing = worker.start(store.finish, claim, Succeeded())

    assert not worker.must_wait(finishing)
    assert (renewed, answer(finishing)) == ({job_id: False}, Ended(job_id, "succeeded"))
    log.roll_back()


def test_a_look_that_finds_nothing_writes_nothing(store):
    ready_job(store)
    claim_one(store)

    with statements() as found:
        rescue(store)

    # The leases, and the jobs that workers of version 0.1 have claimed.
    assert [sql.split()[0] for sql, _values in found] == ["SELECT", "SELECT"]


def test_a_rescue_belongs_to_no_transaction_of_the_callers_but_may(store):
    job_id = ready_job(store)
    claim_one(store, lease=ALREADY_OVER)

    with transaction.atomic():
        rescue(store)
        transaction.set_rollback(True)

    assert state(store, job_id) == "running"


# ---- what a dead worker had not begun ---------------------------------------------


def test_what_a_dead_worker_had_not_begun_is_given_back_without_a_crash(store):
    dead = uuid4()
    first, *_others = ready_jobs(store, 3)
    claims = claim_all(store, worker_id=dead)
    begun = [one for one in claims if one.job_id != first]

    assert len(store.release_unstarted(dead, begun={one.job_id for one in begun})) == 1

    row = job(store, first)
    assert (row.state, row.attempts, row.crashes, row.token) == (State.READY, 0, 0, 1)
    assert (row.worker_id, row.lease_until, row.error_list) == (None, None, [])
    assert {state(store, one.job_id) for one in begun} == {State.RUNNING}
    assert claim_one(store).job_id == first


def test_only_the_dead_workers_own_jobs_are_given_back(store):
    dead, alive = uuid4(), uuid4()
    ready_jobs(store, 3)
    kept = claim_one(store, worker_id=alive)
    done = claim_one(store, worker_id=dead)
    store.finish(done, Succeeded())
    again = claim_one(store, worker_id=dead, lease=ALREADY_OVER)
    rescue(store)
    taken = claim_one(store, worker_id=alive, only=[again.job_id])

    assert store.release_unstarted(dead, begun=()) == []

    assert store.finish(kept, Succeeded())
    assert store.finish(taken, Succeeded())
    assert state(store, done.job_id) == State.SUCCEEDED


def test_a_job_with_crashes_that_had_not_begun_is_given_back_as_well(store):
    dead = uuid4()
    ready_job(store)
    claim_one(store, lease=ALREADY_OVER)
    rescue(store)
    suspect = claim_one(store, worker_id=dead)

    assert store.release_unstarted(dead, begun=()) == [(suspect.job_id, "ready")]

    assert job(store, suspect.job_id).crashes == 1


def test_what_is_to_be_cancelled_is_cancelled_instead_of_given_back(store):
    dead = uuid4()
    job_id = ready_job(store)
    claim_one(store, worker_id=dead)
    store.cancel([job_id])

    assert store.release_unstarted(dead, begun=()) == [(job_id, "cancelled")]

    assert state(store, job_id) == State.CANCELLED


def test_a_late_word_of_the_dead_worker_about_what_was_given_back_changes_nothing(store):
    dead = uuid4()
    ready_job(store)
    claim = claim_one(store, worker_id=dead)

    store.release_unstarted(dead, begun=())

    assert not store.finish(claim, Succeeded())
    assert state(store, claim.job_id) == State.READY
