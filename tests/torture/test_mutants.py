"""Each guard is taken away once, and the test that stands for it must fail (TORTURE 39).

A test that passes with and without the guard proves nothing about it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.db import connection

from aftercommit.models import Job
from tests.app.chores import atomic
from tests.torture import test_ambiguous_commit as ambiguous
from tests.torture.mutants import MUTANTS, WANTED
from tests.torture.test_crash_points import children, finish_the_rest
from tests.worker import test_atomic as atomic_tasks
from tests.worker import test_commit as commits
from tests.worker import test_conflicts as conflicts
from tests.worker.rig import Rig

FEW = 4  # cuts


@dataclass(frozen=True, slots=True)
class Bench:
    """What the tests under test ask for."""

    rig: Any  # of processes
    one: Rig  # of one thread
    monkeypatch: pytest.MonkeyPatch


@pytest.fixture
def bench(rig: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    one = Rig()
    yield Bench(rig, one, monkeypatch)
    one.close()


def of_one_run(test: Callable[..., None], *args: Any, **more: Any) -> Callable[[Bench], None]:
    """Run a test of the worker's rooms."""
    return lambda bench: test(bench.one, *args, **more)


def lost_answer(test: Callable[..., None], *, vendor: bool = False) -> Callable[[Bench], None]:
    """Run a test that loses the answer to one COMMIT."""
    more = {"vendor": connection.vendor} if vendor else {}
    return lambda bench: test(
        bench.one, monkeypatch=bench.monkeypatch, kind=conflicts.in_atomic_task, **more
    )


def cuts(transition: str, when: str) -> Callable[[Bench], None]:
    """Run a cell of the matrix of cuts, with few of them."""

    def check(bench: Bench) -> None:
        if connection.vendor == "sqlite":
            pytest.skip("SQLite has no connection that could be cut")
        bench.monkeypatch.setattr(ambiguous, "CUTS", FEW)
        test = ambiguous.test_a_cut_on_the_road_loses_and_doubles_nothing
        with ambiguous.proxy_in_front() as proxy:
            test(bench.rig, proxy, transition, when)

    return check


def crash_after_commit(bench: Bench) -> None:
    """End a process right after the COMMIT of its effects, and let another go on."""
    with children(bench.rig) as forks:
        quiet = forks.run(job=bench.rig.enqueue(atomic, "quiet"), queue="default")
        effect = next(n for n, name in enumerate(quiet.answer.points) if "app_effect" in name)
        point = quiet.answer.points.index("COMMIT", effect)
        case = forks.run(
            job=bench.rig.enqueue(atomic, "crash"), queue="default", point=point, when="after"
        )
    assert case.answer.harm == "COMMIT"
    if Job.objects.exclude(state="succeeded").exists():
        finish_the_rest(bench.rig)
    assert bench.rig.check(committed=["quiet", "crash"]).violations == []


settled = conflicts.test_a_commit_whose_answer_is_lost_is_settled_as_success
given_back = conflicts.test_a_commit_that_was_not_carried_out_is_given_back
spoiled = atomic_tasks.test_a_transaction_that_will_not_commit_is_never_marked_done
ended = atomic_tasks.test_a_transaction_that_the_task_ended_is_said_aloud
swallowed = commits.test_a_block_that_will_not_commit_is_never_marked_done

KILLERS: list[tuple[str, str, Callable[[Bench], None]]] = [
    ("record_after_commit", "crash after COMMIT", crash_after_commit),
    ("again_in_place", "answer lost", lost_answer(settled)),
    ("again_in_place", "cut after COMMIT", cuts("COMMIT", "after")),
    ("blind_failure", "answer lost", lost_answer(settled)),
    ("blind_failure", "cut after COMMIT", cuts("COMMIT", "after")),
    ("blind_retry", "answer lost", lost_answer(settled)),
    ("blind_retry", "cut after COMMIT", cuts("COMMIT", "after")),
    ("never_settle", "answer lost", lost_answer(settled)),
    ("never_settle", "cut after COMMIT", cuts("COMMIT", "after")),
    ("never_settle", "cut after T3", cuts("T3", "after")),
    (
        "ignore_the_row_count",
        "claim lost",
        of_one_run(atomic_tasks.test_a_claim_that_was_lost_undoes_the_effects),
    ),
    ("no_rollback_guard", "set_rollback", of_one_run(spoiled, atomic_tasks.mark_for_rollback)),
    ("no_savepoint", "COMMIT by hand", of_one_run(ended, atomic_tasks.commit_by_hand)),
    (
        "forget_errors",
        "error swallowed",
        of_one_run(
            atomic_tasks.test_an_error_swallowed_inside_the_tasks_own_block_is_no_success_either
        )
        if connection.vendor != "postgresql"
        else of_one_run(
            conflicts.test_a_conflict_that_the_task_swallowed_commits_nothing,
            connection.vendor,
            conflicts.in_atomic_task,
        ),
    ),
    (
        "forgive_after_the_body",
        "RolledBack swallowed",
        of_one_run(swallowed, atomic_tasks.mark_for_rollback, swallowed=True),
    ),
]
if connection.vendor == "postgresql":  # elsewhere the driver's error has a number
    KILLERS += [
        ("ask_the_new_connection", "answer lost", lost_answer(given_back, vendor=True)),
        ("ask_the_new_connection", "cut before COMMIT", cuts("COMMIT", "before")),
    ]


@pytest.mark.parametrize(
    ("mutant", "check"),
    [pytest.param(name, check, id=f"{name}, {what}") for name, what, check in KILLERS],
)
def test_a_missing_guard_is_noticed(bench, mutant, check):
    bench.rig.environment[WANTED] = mutant
    with bench.monkeypatch.context() as patch:
        MUTANTS[mutant](patch.setattr)
        with pytest.raises(AssertionError):
            check(bench)


@pytest.mark.parametrize(
    "check",
    [pytest.param(check, id=what) for what, check in {w: c for _n, w, c in KILLERS}.items()],
)
def test_with_every_guard_nothing_is_noticed(bench, check):
    """Else a test that fails for another reason would look as if it noticed the mutant."""
    check(bench)


def test_every_mutant_has_a_test_that_notices_it():
    elsewhere = {"ask_the_new_connection"} if connection.vendor != "postgresql" else set()

    assert {name for name, _what, _check in KILLERS} == set(MUTANTS) - elsewhere
