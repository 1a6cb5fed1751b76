"""Jobs that wait for jobs: who ends the last of those frees them, in the same transaction."""

import json
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import Q

from aftercommit.errors import NeededJobMissing
from aftercommit.ids import new_job_id
from aftercommit.models import Dependency, Job
from aftercommit.places import place_of, with_limit
from aftercommit.store import operations
from aftercommit.store.aside import Front
from aftercommit.store.graphs import edges as edges_module
from aftercommit.store.graphs import freeing
from aftercommit.store.operations import Retried
from aftercommit.values import (
    TASK,
    Cancelled,
    Edge,
    Failed,
    OnConflict,
    Released,
    Retry,
    Succeeded,
    SucceededAndGone,
)
from tests.store.callers import Held, statements
from tests.store.given import (
    ALREADY_OVER,
    ERROR,
    MOST_CRASHES,
    claim_all,
    claim_one,
    job,
    new_job,
    ready_job,
    ready_jobs,
    state,
)
from tests.store.graphs import (
    drain,
    edges_of,
    graph,
    is_free,
    states,
    succeed,
    sweep,
    waits,
    with_results,
)

DIAMOND = {"a": "", "b": "a", "c": "a", "d": "bc"}


def test_a_job_that_waits_is_seen_by_no_claim(store):
    jobs = graph(store, DIAMOND)

    assert [one.job_id for one in claim_all(store)] == [jobs["a"]]
    assert all(waits(jobs[name]) for name in "bcd")


def test_the_end_of_the_last_one_that_it_needs_frees_it(store):
    jobs = graph(store, DIAMOND)

    succeed(store, jobs["a"])
    assert is_free(jobs["b"])
    assert is_free(jobs["c"])
    succeed_one(store, jobs["b"])
    assert waits(jobs["d"])
    succeed_one(store, jobs["c"])

    assert is_free(jobs["d"])
    assert not Dependency.objects.exists()


@pytest.mark.parametrize("together", [False, True])
def test_a_graph_runs_in_the_order_of_its_edges(together, store):
    jobs = graph(store, {"a": "", "b": "a", "c": "", "d": "bc", "e": "d", "f": "ad"})

    order = [name for one in drain(store) for name, job_id in jobs.items() if job_id == one]

    assert sorted(order) == list(jobs)
    for before, after in ("ab", "bd", "cd", "de", "df"):
        assert order.index(before) < order.index(after)


def test_the_end_and_what_it_frees_are_one_commit(store):
    jobs = graph(store, {"a": "", "b": "a"})
    claim = claim_one(store)

    with pytest.raises(RuntimeError), transaction.atomic():
        assert store.finish(claim, Succeeded())
        assert is_free(jobs["b"])
        raise RuntimeError

    assert waits(jobs["b"])
    assert store.finish(claim, Succeeded())
    assert is_free(jobs["b"])


# Statements of the end of a job that one other waits for, in the transaction of its task.
MOST_STATEMENTS = {"postgresql": 13, "mysql": 13, "sqlite": 13}


def test_the_end_of_a_job_that_frees_one_is_a_bounded_number_of_statements(store, vendor):
    jobs = graph(store, {"a": "", "b": "a"})
    claim = claim_one(store)

    with transaction.atomic(), statements() as sent:
        assert store.finish(claim, Succeeded())

    assert is_free(jobs["b"])
    assert len(sent) <= MOST_STATEMENTS[vendor], [sql for sql, _given in sent]
    assert sum(sql.startswith("SAVEPOINT") for sql, _given in sent) <= 1


def test_an_error_while_it_frees_others_undoes_the_end(store, monkeypatch):
    jobs = graph(store, {"a": "", "b": "a"})
    claim = claim_one(store)
    monkeypatch.setattr(type(store), "_forget_edges", lambda *_given: 1 / 0)

    with transaction.atomic():
        with pytest.raises(ZeroDivisionError):
            store.finish(claim, Succeeded())
        assert state(store, jobs["a"]) == "running"  # the transaction can go on

    assert waits(jobs["b"])


def test_a_graph_that_is_rolled_back_never_was(store):
    with pytest.raises(RuntimeError), transaction.atomic():
        graph(store, DIAMOND)
        raise RuntimeError

    assert not Job.objects.exists()
    assert not Dependency.objects.exists()


def test_results_go_to_their_places(store):
    *needed, total = with_results(store, 3)
    for number, job_id in enumerate(needed):
        claim = claim_one(store, only=[job_id])
        store.finish(claim, Succeeded(json.dumps({"price": number})))

    (claim,) = claim_all(store)

    assert claim.job_id == total
    assert json.loads(claim.payload) == {
        "args": [[{"price": 0}, {"price": 1}, {"price": 2}]],
        "kwargs": {},
    }
    assert not Dependency.objects.exists()


def test_the_result_of_a_job_whose_row_was_to_go_is_kept_until_it_is_taken(store):
    first, second, total = with_results(store, 2)
    claims = claim_all(store)
    ended = store.finish_many(
        [(one, SucceededAndGone(json.dumps(str(one.job_id)))) for one in claims]
    )

    assert sorted(ended) == sorted([(first, "succeeded"), (second, "succeeded")])
    assert job(store, total).args == [[str(first), str(second)]]
    assert is_free(total)


def test_the_result_of_a_job_that_is_pruned_meanwhile_is_kept(store):
    first, second, total = with_results(store, 2)
    store.finish(claim_one(store, only=[first]), Succeeded("1"))
    assert store.prune(older_than=timedelta(seconds=-1)) == 1
    sweep(store)
    assert waits(total)

    store.finish(claim_one(store, only=[second]), Succeeded("2"))

    assert job(store, total).args == [[1, 2]]


def test_results_that_are_too_large_together_fail_the_job_that_was_to_get_them(store):
    *needed, total = with_results(store, 3, limit=60)

    succeed(store, *needed, result=json.dumps("x" * 30))

    failed = job(store, total)
    assert failed.state == "failed"
    (error,) = failed.error_list
    assert error["exception_class_path"] == "aftercommit.errors.PayloadTooLarge"
    assert "the results of the jobs that it has waited for" in error["traceback"]
    assert "the limit is 60" in error["traceback"]


def test_a_result_that_makes_the_arguments_too_large_fails_the_job(store):
    *needed, total = with_results(store, 1, limit=40)

    succeed(store, *needed, result=json.dumps("x" * 30))

    assert state(store, total) == "failed"


def test_arguments_that_somebody_has_changed_fail_the_job_and_not_the_one_before_it(store):
    *needed, total = with_results(store, 1)
    Job.objects.filter(id=total).update(payload="[1]")

    succeed(store, *needed)

    assert state(store, total) == "failed"
    assert "cannot be read" in job(store, total).error_list[0]["traceback"]


OUTCOMES = {
    "failed": Failed(ERROR),
    "cancelled": Cancelled(),
}


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize(
    ("on_failure", "becomes"), [("cancel", "cancelled"), ("fail", "failed"), ("run", "ready")]
)
def test_what_becomes_of_a_job_if_one_that_it_needs_does_not_succeed(
    on_failure, becomes, outcome, store
):
    jobs = graph(store, {"a": "", "b": "", "c": "ab"}, on_failure=on_failure)

    store.finish(claim_one(store, only=[jobs["a"]]), OUTCOMES[outcome])

    if on_failure == "run":
        assert waits(jobs["c"])
        succeed(store, jobs["b"])
        assert is_free(jobs["c"])
        return
    ended = job(store, jobs["c"])
    assert ended.state == becomes
    assert ended.finished_at is not None
    (error,) = ended.error_list
    assert error["exception_class_path"] == "aftercommit.errors.NeededJobFailed"
    how = "failed" if outcome == "failed" else "was cancelled"
    assert f"job {jobs['a']} of tests.app.tasks.add, which {how}." in error["traceback"]
    succeed(store, jobs["b"])
    assert state(store, jobs["c"]) == becomes


def test_no_result_is_none_for_a_job_that_runs_all_the_same(store):
    *needed, total = with_results(store, 2)
    Dependency.objects.update(on_failure="run")
    store.finish(claim_one(store, only=[needed[0]]), Failed(ERROR))
    store.finish(claim_one(store, only=[needed[1]]), Succeeded("2"))

    assert job(store, total).args == [[None, 2]]


def test_a_failure_goes_through_the_whole_chain(store):
    jobs = graph(store, {"a": "", "b": "a", "c": "b", "d": "c", "e": "d"})

    store.finish(claim_one(store), Failed(ERROR))

    assert states(store, jobs) == {"a": "failed"} | dict.fromkeys("bcde", "cancelled")
    assert str(jobs["d"]) in job(store, jobs["e"]).error_list[0]["traceback"]


def test_a_failure_with_more_behind_it_than_one_transaction_takes_goes_on_after_it(
    store, monkeypatch
):
    monkeypatch.setattr(freeing, "MOST_EDGES", 2)
    jobs = graph(store, {"a": "", "b": "a", "c": "a", "d": "a", "e": "d", "f": "e", "g": "f"})

    store.finish(claim_one(store), Failed(ERROR))

    assert states(store, jobs) == {"a": "failed"} | dict.fromkeys("bcdefg", "cancelled")


def test_many_that_wait_for_one_are_freed_in_several_transactions(store, monkeypatch):
    monkeypatch.setattr(freeing, "MOST_EDGES", 2)
    jobs = graph(store, {"a": "", **dict.fromkeys("bcdefgh", "a")})

    succeed(store, jobs["a"])

    assert all(is_free(jobs[name]) for name in "bcdefgh")


@pytest.mark.parametrize("outcome", [Retry(ERROR), Released()])
def test_a_run_after_which_the_job_is_ready_again_frees_nobody(outcome, store):
    jobs = graph(store, {"a": "", "b": "a"})

    store.finish(claim_one(store), outcome)

    assert waits(jobs["b"])
    succeed(store, jobs["a"])
    assert is_free(jobs["b"])


def test_a_cancelled_job_ends_those_that_wait_for_it(store):
    jobs = graph(store, {"a": "", "b": "a", "c": "b"})

    answer = store.cancel([jobs["a"]])

    assert answer.cancelled == {jobs["a"]}
    assert states(store, jobs) == dict.fromkeys("abc", "cancelled")


def test_a_job_that_is_cancelled_while_it_waits_is_not_freed(store):
    jobs = graph(store, {"a": "", "b": "a"})
    store.cancel([jobs["b"]])

    succeed(store, jobs["a"])

    assert state(store, jobs["b"]) == "cancelled"
    assert job(store, jobs["b"]).error_list == []


def test_a_whole_graph_can_be_cancelled_at_once(store):
    jobs = graph(store, DIAMOND)

    answer = store.cancel(jobs.values())

    assert states(store, jobs) == dict.fromkeys("abcd", "cancelled")
    assert answer.cancelled <= set(jobs.values())


def test_a_job_that_is_quarantined_ends_those_that_wait_for_it(store):
    jobs = graph(store, {"a": "", "b": "a"})
    for _time in range(MOST_CRASHES * 10):
        claim_one(store, lease=ALREADY_OVER)
        store.rescue(max_crashes=MOST_CRASHES)

    assert states(store, jobs) == {"a": "failed", "b": "cancelled"}


def test_a_job_that_was_to_be_cancelled_and_is_released_ends_those_that_wait(store):
    jobs = graph(store, {"a": "", "b": "a"})
    claim = claim_one(store)
    store.cancel([jobs["a"]])

    ended = store.finish(claim, Released())

    assert ended == (jobs["a"], "cancelled")
    assert state(store, jobs["b"]) == "cancelled"


def test_a_lost_claim_frees_nobody(store):
    jobs = graph(store, {"a": "", "b": "a"})
    late = claim_one(store, lease=ALREADY_OVER)
    store.rescue(max_crashes=MOST_CRASHES)

    assert store.finish(late, Succeeded()) is None
    assert store.finish_many([(late, Succeeded())]) == []

    assert waits(jobs["b"])


def test_plain_jobs_and_needed_ones_end_in_one_batch(store):
    jobs = graph(store, {"a": "", "b": "a", "c": "", "d": "c"})
    plain = ready_jobs(store, 3)
    claims = claim_all(store)
    outcomes = {jobs["c"]: Failed(ERROR), plain[0]: Failed(ERROR), plain[1]: SucceededAndGone()}

    ended = store.finish_many([(one, outcomes.get(one.job_id, Succeeded())) for one in claims])

    assert len(ended) == len(claims) == 5
    assert is_free(jobs["b"])
    assert state(store, jobs["d"]) == "cancelled"


# ---- two ends at the same time ---------------------------------------------------------


def test_of_two_ends_that_do_not_see_each_other_the_later_one_frees(store, new_caller):
    if connection.vendor == "sqlite":
        pytest.skip("one writer at a time")
    jobs = graph(store, {"a": "", "b": "", "c": "ab"})
    first, second = claim_all(store)
    held = Held(new_caller(), lambda: store.finish(first, Succeeded()))

    with transaction.atomic():
        assert store.finish(second, Succeeded())
    assert waits(jobs["c"])
    held.commit()

    assert is_free(jobs["c"])


def test_if_the_later_one_dies_before_it_looks_again_the_sweep_frees(
    store, new_caller, monkeypatch
):
    jobs = graph(store, {"a": "", "b": "", "c": "ab"})
    first, second = claim_all(store)
    monkeypatch.setattr(type(store), "_after_commit", lambda _self, _do: None)
    monkeypatch.setattr(type(store), "_with_open", lambda _self, _ids: ([], []))
    store.finish_many([(first, Succeeded()), (second, Succeeded())])
    monkeypatch.undo()
    assert waits(jobs["c"])

    sweep(store)

    assert is_free(jobs["c"])


def test_who_ends_a_job_does_not_look_again_while_much_is_open(store, monkeypatch):
    monkeypatch.setattr(edges_module, "FEW", 2)
    looks = []
    jobs = graph(store, {**dict.fromkeys("abcde", ""), "z": "abcde"})
    look_again = type(store)._look_again
    monkeypatch.setattr(
        type(store), "_look_again", lambda self, ids: [looks.append(ids), look_again(self, ids)]
    )

    for name in "abcde":
        succeed_one(store, jobs[name])

    assert looks == [[jobs["z"]]] * 2
    assert is_free(jobs["z"])


def succeed_one(store, job_id):
    store.finish(claim_one(store, only=[job_id]), Succeeded())


def test_a_job_that_somebody_has_locked_is_left_to_the_sweep(store, other):
    if connection.vendor == "sqlite":
        pytest.skip("no row locks")
    jobs = graph(store, {"a": "", "b": "a", "c": "a"})
    held = Held(other, lambda: list(Job.objects.select_for_update().filter(id=jobs["b"])))

    succeed(store, jobs["a"])
    assert is_free(jobs["c"])
    assert waits(jobs["b"])
    held.commit()
    sweep(store)

    assert is_free(jobs["b"])


# ---- what the sweep finds --------------------------------------------------------------


def test_the_sweep_finds_the_end_that_a_program_without_edges_has_written(store):
    *needed, total = with_results(store, 2)
    for job_id in needed:
        Job.objects.filter(id=job_id).update(
            state="succeeded",
            claimable=False,
            result="7",
            finished_at=job(store, job_id).run_after,
        )

    assert sweep(store)

    assert is_free(total)
    assert job(store, total).args == [[7, 7]]


def test_a_job_whose_row_was_deleted_counts_as_one_that_did_not_succeed(store):
    jobs = graph(store, {"a": "", "b": "a"})
    Job.objects.filter(id=jobs["a"]).delete()

    sweep(store)

    assert state(store, jobs["b"]) == "cancelled"
    assert "is gone: its row was deleted" in job(store, jobs["b"]).error_list[0]["traceback"]


def test_the_sweep_forgets_the_edges_of_jobs_that_are_gone(store):
    jobs = graph(store, {"a": "", "b": "a"})
    Job.objects.filter(id=jobs["b"]).delete()

    assert not sweep(store)

    assert not Dependency.objects.exists()


def test_the_sweep_leaves_what_waits_alone(store):
    jobs = graph(store, DIAMOND)

    assert sweep(store)

    assert all(waits(jobs[name]) for name in "bcd")
    assert len(edges_of(jobs["d"])) == 2


def test_the_sweep_passes_over_rows_of_pauses(store):
    Dependency.objects.bulk_create(
        Dependency(job_id=new_job_id(), needs_id=new_job_id()) for _number in range(5)
    )
    graph(store, {"a": "", "b": "a"})
    pauses = Dependency.objects.order_by("id").values_list("id", flat=True)

    assert store.sweep_edges(after=0, most=2) == (pauses[1], False)
    assert sweep(store)


# ---- jobs that existed before ----------------------------------------------------------


def after(store, *needs, on_failure="cancel"):
    """Enqueue a job that waits for jobs that exist."""
    one = new_job(waits=True)
    store.insert_graph([one], [Edge(one.id, job_id, on_failure) for job_id in needs])
    return one.id


def test_a_job_can_wait_for_one_that_is_queued_already(store):
    first = ready_job(store)

    second = after(store, first)

    assert waits(second)
    succeed(store, first)
    assert is_free(second)


def finish_and_go(store):
    store.finish(claim_one(store), SucceededAndGone())


@pytest.mark.parametrize("together", [False, True])
def test_a_queued_job_whose_row_was_to_go_frees_those_that_wait(together, store, monkeypatch):
    monkeypatch.setattr(type(store), "_need", lambda *_given: None)  # the process has died
    first = None if together else ready_job(store)
    with transaction.atomic():
        first = first or ready_job(store)
        second = after(store, first)

    finish_and_go(store)

    assert is_free(second)


def test_no_worker_takes_a_queued_job_while_one_that_waits_for_it_is_not_committed(store, other):
    if connection.vendor == "sqlite":
        pytest.skip("one writer at a time")
    first = ready_job(store)
    held = Held(other, lambda: after(store, first))

    assert claim_all(store) == []

    held.commit()
    finish_and_go(store)
    assert claim_one(store)


def test_a_job_can_wait_for_one_that_is_running(store):
    first = ready_job(store)
    claim = claim_one(store)

    second = after(store, first)

    assert waits(second)
    store.finish(claim, Succeeded())
    assert is_free(second)


@pytest.mark.parametrize(
    ("outcome", "expected"), [(Succeeded(), "ready"), (Failed(ERROR), "cancelled")]
)
def test_what_has_ended_has_its_effect_at_once(outcome, expected, store):
    first = ready_job(store)
    store.finish(claim_one(store), outcome)

    second = after(store, first)

    assert state(store, second) == expected
    assert expected != "ready" or is_free(second)


def test_a_job_that_does_not_exist_is_an_error_before_anything_is_written(store):
    with pytest.raises(NeededJobMissing, match="which this database does not have"):
        after(store, new_job_id())

    assert not Job.objects.exists()


def test_whoever_enqueues_locks_no_row_of_a_running_job(store, other):
    if connection.vendor == "sqlite":
        pytest.skip("no row locks")
    first = ready_job(store)
    claim = claim_one(store)

    with transaction.atomic():
        second = after(store, first)
        assert other.do(store.finish, claim, Succeeded())
    assert is_free(second)


def test_an_end_that_is_being_written_is_not_waited_for_and_the_sweep_finds_it(store, other):
    if connection.vendor == "sqlite":
        pytest.skip("no row locks")
    first = ready_job(store)
    claim = claim_one(store)
    held = Held(other, lambda: store.finish(claim, Succeeded()))

    second = after(store, first)
    held.commit()
    sweep(store)

    assert is_free(second)


# ---- retries by hand -------------------------------------------------------------------


def failed_chain(store, *names):
    """Return a chain whose first job has failed, so that the others are cancelled."""
    jobs = graph(store, dict(zip(names, ["", *names], strict=False)))
    store.finish(claim_one(store), Failed(ERROR))
    assert states(store, jobs) == {names[0]: "failed"} | dict.fromkeys(names[1:], "cancelled")
    return jobs


def test_a_graph_that_is_retried_as_a_whole_waits_again(store):
    jobs = failed_chain(store, "a", "b", "c")

    retried = store.retry(jobs.values())

    assert retried.ready == set(jobs.values())
    assert is_free(jobs["a"])
    assert waits(jobs["b"])
    assert waits(jobs["c"])
    assert drain(store) == list(jobs.values())


def test_a_retry_takes_the_results_that_are_there(store):
    first, second, total = with_results(store, 2)
    store.finish(claim_one(store, only=[first]), Succeeded("1"))
    store.finish(claim_one(store, only=[second]), Failed(ERROR))
    assert state(store, total) == "cancelled"

    store.retry([second, total])

    assert waits(total)
    store.finish(claim_one(store), Succeeded("2"))
    assert job(store, total).args == [[1, 2]]


def test_a_job_is_not_retried_as_long_as_what_it_needs_has_not_succeeded(store):
    jobs = failed_chain(store, "a", "b", "c")
    before = rows_of(jobs)

    retried = store.retry([jobs["c"], jobs["b"]])

    assert retried.ready == frozenset()
    assert retried.unmet == {jobs["b"], jobs["c"]}
    assert rows_of(jobs) == before


def rows_of(jobs):
    return list(Job.objects.filter(id__in=jobs.values()).order_by("id").values())


def test_a_job_that_was_refused_can_be_retried_after_what_it_needs(store):
    jobs = failed_chain(store, "a", "b")
    assert store.retry([jobs["b"]]).unmet == {jobs["b"]}

    store.retry([jobs["a"]])
    assert store.retry([jobs["b"]]) == Retried(
        ready=frozenset([jobs["b"]]), clashed=frozenset(), unmet=frozenset()
    )

    assert drain(store) == [jobs["a"], jobs["b"]]


def test_a_job_that_runs_all_the_same_is_retried_whatever_it_needs(store):
    jobs = graph(store, {"a": "", "b": "a"}, on_failure="run")
    store.cancel([jobs["b"]])
    store.finish(claim_one(store), Failed(ERROR))

    assert store.retry([jobs["b"]]).ready == {jobs["b"]}

    assert is_free(jobs["b"])


def test_a_job_is_not_retried_if_what_it_needs_is_gone_or_is_not_among_them(store):
    jobs = failed_chain(store, "a", "b", "c")
    assert store.retry(jobs.values(), among=~Q(id=jobs["a"])).unmet == {jobs["b"], jobs["c"]}
    Job.objects.filter(id=jobs["a"]).delete()

    assert store.retry([jobs["b"], jobs["c"]]).unmet == {jobs["b"], jobs["c"]}

    assert {state(store, jobs[one]) for one in "bc"} == {"cancelled"}


def test_a_job_is_free_if_what_it_needs_was_retried_before_and_has_succeeded(store):
    jobs = failed_chain(store, "a", "b")
    store.retry([jobs["a"]])
    succeed(store, jobs["a"])
    assert state(store, jobs["b"]) == "cancelled"

    assert store.retry([jobs["b"]]).ready == {jobs["b"]}

    assert is_free(jobs["b"])


def test_a_job_that_was_cancelled_while_it_waited_waits_again(store):
    jobs = graph(store, {"a": "", "b": "a"})
    store.cancel([jobs["b"]])

    store.retry([jobs["b"]])

    assert waits(jobs["b"])
    succeed(store, jobs["a"])
    assert is_free(jobs["b"])


def test_a_job_with_results_that_has_failed_runs_again_with_them(store):
    *needed, total = with_results(store, 2)
    succeed(store, *needed, result="7")
    store.finish(claim_one(store), Failed(ERROR))

    assert store.retry([total]).ready == {total}

    assert is_free(total)
    assert job(store, total).args == [[7, 7]]


def test_a_retried_unique_job_waits_again(store):
    jobs = graph(store, {"a": "", "b": "a"}, given={"b": {"unique_key": "k"}})
    store.finish(claim_one(store), Failed(ERROR))

    assert store.retry(jobs.values()).ready == set(jobs.values())

    assert waits(jobs["b"])


def test_what_a_retried_job_needs_may_be_retried_after_it_by_the_same_call(store, monkeypatch):
    monkeypatch.setattr(operations, "ONE_WRITE", 1)
    jobs = graph(store, {"c": "b", "b": "a", "a": ""}, given={"a": {"unique_key": "k"}})
    store.finish(claim_one(store), Failed(ERROR))

    assert store.retry(jobs.values()).ready == set(jobs.values())

    assert drain(store) == [jobs[name] for name in "abc"]


def test_a_job_with_a_key_is_retried_with_those_that_need_it(store):
    jobs = graph(store, {"a": "", "b": "a"}, given={"a": {"unique_key": "k"}})
    store.finish(claim_one(store), Failed(ERROR))

    assert store.retry(jobs.values()).ready == set(jobs.values())

    assert waits(jobs["b"])


def test_of_jobs_that_are_retried_those_stay_whose_needs_are_not(store, monkeypatch):
    monkeypatch.setattr(operations, "ONE_WRITE", 1)
    jobs = graph(store, {"c": "b", "b": "a", "a": ""})
    store.finish(claim_one(store), Failed(ERROR))

    assert store.retry([jobs["b"], jobs["c"]]).unmet == {jobs["b"], jobs["c"]}

    assert states(store, jobs) == {"a": "failed", "b": "cancelled", "c": "cancelled"}


# ---- beside other reasons to wait -------------------------------------------------------


def test_a_holder_that_waits_and_gets_other_arguments_goes_on_waiting(store):
    first = ready_job(store)
    payload = with_limit('{"args":[null],"kwargs":{}}', 1000)
    holder = new_job(waits=True, payload=payload, unique_key="k", limit_key="limited")
    store.insert_graph([holder], [Edge(holder.id, first, place=place_of([("args", 0)]))])

    new = new_job(payload='{"args":["new"],"kwargs":{}}', unique_key="k", limit_key="limited")
    (placed,) = store.insert_unique([new], OnConflict(replaces=True))

    assert placed.job_id == holder.id
    assert waits(holder.id)
    succeed(store, first, result="7")
    assert is_free(holder.id)
    assert job(store, holder.id).args == ["new"]


def test_the_end_of_a_pause_does_not_free_a_job_that_waits_for_others(store):
    jobs = failed_chain(store, "a", "b")
    store.pause(TASK, job(store, jobs["b"]).task_path, by="", why="")
    store.retry(jobs.values())
    path = job(store, jobs["a"]).task_path
    while store.set_aside("default", [("default", 0)], {path}) is Front.MOVED:
        continue
    store.resume(TASK, path)

    while store.bring_back(path):
        continue

    assert is_free(jobs["a"])
    assert waits(jobs["b"])


def test_a_fair_job_takes_its_turn_when_it_is_free(store):
    jobs = graph(store, {"a": "", "b": "a"}, given={"b": {"fair_key": "x" * 40}})

    assert waits(jobs["b"])
    succeed(store, jobs["a"])

    assert is_free(jobs["b"])


def test_those_that_wait_are_counted_by_queue(store):
    graph(store, {"a": "", "b": "a", "c": "a"})

    assert store.held_back("queue", most=10).waiting == {"default": 2}
