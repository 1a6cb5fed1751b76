"""T1 to T10 against each other, at each border between their statements."""

from dataclasses import replace

import pytest
from django.db import connection

from tests.store.given import job, ready_job
from tests.store.history import forget_history, history, is_legal, written_down
from tests.store.schedules import (
    NOTHING,
    OF_OWNERS,
    PASSES_OVER,
    STARTS,
    TRANSITIONS,
    Seen,
    borders,
    in_turn,
    rescued,
    run_schedule,
    taken_over,
)


@pytest.fixture
def caller(new_caller):
    """Someone else, who on SQLite does not wait: see ``Inner``."""
    caller = new_caller()
    if connection.vendor == "sqlite":
        caller.do(run, "PRAGMA busy_timeout = 0")
    with written_down():
        yield caller


def run(sql):
    with connection.cursor() as cursor:
        cursor.execute(sql)


def check_pairs(store, caller, make, outer, inners=tuple(TRANSITIONS)):
    """Run every schedule of two transitions: each ends as if one had come after the other."""
    where = borders(store, make, TRANSITIONS[outer])
    seen = []
    for inner in inners:
        ends = allowed_ends(store, make, outer, inner)
        for border in where:
            pair = TRANSITIONS[outer], TRANSITIONS[inner]
            one = run_schedule(store, caller, make, *pair, border)
            hint = f"{outer}; before its statement {border}: {inner}; {one}, not one of {ends}"
            assert any(one == replace(end, waited=one.waited) for end in ends), hint
            assert all(is_legal(*change) for change in one.changes), hint
            seen.append(one)
    return seen


def allowed_ends(store, make, outer, inner):
    first, second = TRANSITIONS[outer], TRANSITIONS[inner]
    one, two, row, changes = in_turn(store, make, first, second)
    outer_first = Seen(outer=one, inner=two, row=row, changes=changes)
    one, two, row, changes = in_turn(store, make, second, first)
    inner_first = Seen(outer=two, inner=one, row=row, changes=changes)
    one, row, changes = in_turn(store, make, first)
    passed_over = [
        Seen(outer=one, inner=nothing, row=row, changes=changes)
        for nothing in PASSES_OVER.get(inner, ())
    ]
    return [outer_first, inner_first, *passed_over]


@pytest.mark.parametrize(("make", "outer"), STARTS)
def test_two_transitions_end_as_if_one_had_come_after_the_other(store, caller, make, outer):
    seen = check_pairs(store, caller, make, outer)

    assert len(seen) >= len(TRANSITIONS)
    # Only SQLite lets anyone wait for a renewal.
    assert outer == "T2 renew" or sum(one.waited for one in seen) > 0
    assert sum(one.outer not in NOTHING for one in seen) > 0


def check_zombie(store, caller, make, zombie, others=tuple(TRANSITIONS)):
    """Let a stale token come at every moment: it changes nothing."""
    stale = as_zombie(TRANSITIONS[zombie])
    seen = []
    for other in others:
        *alone, changes = in_turn(store, make, TRANSITIONS[other])
        for border in borders(store, make, TRANSITIONS[other]):
            one = run_schedule(store, caller, make, TRANSITIONS[other], stale, border)
            hint = f"{other}; before its statement {border}, by a zombie: {zombie}; {one}"
            assert one.inner in NOTHING, hint
            assert [one.outer, one.row] == alone, f"{hint}, not {alone}"
            assert of_jobs(one.changes) == of_jobs(changes), hint  # it may renew its own lease
            seen.append(one)
    return seen


def of_jobs(changes):
    return [change for change in changes if change[0] != "lease"]


def as_zombie(transition):
    """Let a transition be made with the claim that was lost."""

    def act(store, world):
        return transition(store, replace(world, claim=world.stale))

    return act


@pytest.mark.parametrize("make", [taken_over, rescued])
@pytest.mark.parametrize("zombie", OF_OWNERS)
def test_a_stale_token_changes_nothing_whatever_happens_meanwhile(store, caller, make, zombie):
    fenced = check_zombie(store, caller, make, zombie)

    assert len(fenced) >= len(TRANSITIONS)
    assert sum(bool(one.changes) for one in fenced) > 0  # by those who held the claim


@pytest.mark.parametrize(
    "change",
    [
        {"state": "succeeded", "finished_at": "2030-01-01T00:00Z"},
        {"token": 1},
        {"state": "ready", "token": -1},
    ],
    ids=str,
)
def test_the_judge_of_these_schedules_is_not_blind(store, caller, change):
    row = job(store, ready_job(store))
    forget_history()

    for name, value in change.items():
        setattr(row, name, value)
    row.save()

    assert [is_legal(*one) for one in history()] == [False]
