"""Short atomic jobs that share a transaction: as if each had its own, only faster.

``test_atomic`` runs all of its tests in company, too; here is what company alone can do.
"""

import logging
import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db import OperationalError, connection, transaction

from aftercommit.errors import TimedOut
from aftercommit.models import State
from aftercommit.values import RunResult, Succeeded
from aftercommit.worker.durations import FIRST_RUNS, SHORT, MeanDuration
from aftercommit.worker.running import executor
from aftercommit.worker.running.atomic import shared
from aftercommit.worker.running.atomic import transaction as transaction_module
from aftercommit.worker.running.pool import Pool
from aftercommit.worker.runs import now
from tests.waiting import wait_until
from tests.worker.rig import (
    another_connection,
    at_work,
    commits,
    effects,
    leave,
    make_short,
    sql,
)

pytestmark = commits


def test_all_of_them_are_one_commit(rig, together, monkeypatch):
    seen, commits_made = [], []
    real_commit = connection._commit
    monkeypatch.setattr(connection, "_commit", lambda: commits_made.append(1) or real_commit())

    def look():
        with another_connection() as outsider, outsider.cursor() as cursor:
            cursor.execute("SELECT COUNT(*) FROM app_effect")
            seen.append(cursor.fetchone()[0])

    for name in "ab":
        together.add(name)
    together.add("c", look)
    commits_made.clear()
    together.run()

    assert seen == [0]
    assert sum(commits_made) == 1
    assert together.states() == dict.fromkeys("abc", "succeeded")
    assert [effects(name) for name in "abc"] == [1, 1, 1]


def test_one_that_raises_takes_back_its_own_effects_only(rig, together):
    def fail():
        raise ValueError

    together.add("a")
    together.add("b", fail, max_attempts=1)
    together.add("c")
    together.run()

    assert together.calls == ["a", "b", "c"]  # each once
    assert together.states() == {"a": "succeeded", "b": "failed", "c": "succeeded"}
    assert [effects(name) for name in "abc"] == [1, 0, 1]


def test_one_that_swallows_a_database_error_does_not_break_the_others(rig, together):
    def swallow():
        try:
            sql("SELECT * FROM no_such_table")
        except Exception:
            return "all is well"

    together.add("a")
    together.add("b", swallow, max_attempts=1)
    together.add("c")
    together.run()

    assert together.states() == {"a": "succeeded", "b": "failed", "c": "succeeded"}
    assert [effects(name) for name in "abc"] == [1, 0, 1]


def test_callbacks_run_after_the_commit_each_job_for_itself(rig, together, caplog):
    called = []

    def register(name, *, fails=False):
        def callback():
            called.append((name, connection.in_atomic_block))
            if fails:
                raise ZeroDivisionError

        def body():
            transaction.on_commit(callback)
            transaction.on_commit(callback)

        return body

    together.add("a", register("a"))
    together.add("b", register("b", fails=True))
    together.add("c", register("c"))
    with caplog.at_level(logging.ERROR, "aftercommit"):
        together.run()

    times = [("a", False), ("a", False), ("b", False), ("c", False), ("c", False)]
    assert called == times  # none after the one that raised
    assert caplog.text.count("raised after the commit") == 1
    assert together.states() == dict.fromkeys("abc", "succeeded")


def test_callbacks_of_one_that_failed_are_not_called(rig, together):
    called = []

    def fail():
        transaction.on_commit(lambda: called.append("failed"))
        raise ValueError

    together.add("a", lambda: transaction.on_commit(lambda: called.append("a")))
    together.add("b", fail, max_attempts=1)
    together.run()

    assert called == ["a"]


STATEMENTS = {
    "postgresql": ["COMMIT", "SET LOCAL search_path TO public", "SELECT pg_advisory_lock(7)"],
    "mysql": ["COMMIT", "SET @x = 1", "CREATE TABLE fused_ddl (id int)"],
    "sqlite": ["COMMIT", "PRAGMA user_version = 3", "CREATE TABLE fused_ddl (id int)"],
}


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("swallows", [False, True])
def test_what_would_touch_the_others_is_not_said_in_company(rig, together, number, swallows):
    statement = STATEMENTS[connection.vendor][number]
    said = []

    def say():
        said.append(len(together.calls))
        try:
            sql(statement)
        except Exception:
            if not swallows:
                raise

    try:
        together.add("a")
        together.add("b", say, max_attempts=1)
        together.add("c")
        together.run()
    finally:
        if statement.startswith("CREATE"):
            sql("DROP TABLE IF EXISTS fused_ddl")

    assert said == [2, 4]  # the second time alone
    assert [effects(name) for name in "ac"] == [1, 1]
    assert together.states()["a"] == together.states()["c"] == "succeeded"
    assert not rig.shared.accepts(together.runs["b"])  # and so never again


def test_a_claim_that_was_lost_does_not_keep_the_others_from_their_ends(rig, together):
    together.add("a")
    lost = together.add("b")
    together.add("c")
    rig.lose(lost)

    together.run()

    assert together.states() == {"a": "succeeded", "b": "running", "c": "succeeded"}
    assert [effects(name) for name in "abc"] == [1, 0, 1]
    assert rig.lost == [lost]


class Deadlock(Exception):
    """What a driver raises, whichever it is."""

    sqlstate = "40P01"


def test_a_deadlock_undoes_all_of_them_and_each_is_run_again_alone(rig, together):
    """On MySQL the whole transaction is gone by then; elsewhere its locks are in the way."""

    def collide():
        if together.calls.count("b") == 1:
            raise OperationalError("database is locked") from Deadlock(1213, "deadlock")

    together.add("a")
    together.add("b", collide, max_attempts=1)
    together.add("c")
    together.run()

    assert together.calls == ["a", "b", "a", "b", "c"]
    assert together.states() == dict.fromkeys("abc", "succeeded")
    assert [effects(name) for name in "abc"] == [1, 1, 1]


def test_a_savepoint_that_cannot_be_set_leaves_nothing_behind(rig, together, monkeypatch):
    kind = type(rig.store.savepoint("any"))
    real, faults = kind._set, []

    def refuse(savepoint):
        if faults:
            return real(savepoint)
        faults.append(savepoint)
        raise OperationalError("database is locked") from Deadlock(2013, "lost")

    monkeypatch.setattr(kind, "_set", refuse)
    for name in "ab":
        together.add(name)
    together.run()

    assert faults
    assert not connection.in_atomic_block
    assert together.states() == dict.fromkeys("ab", "succeeded")
    assert [effects(name) for name in "ab"] == [1, 1]


def test_one_that_has_returned_in_spite_of_an_interrupt_is_undone_with_the_others(rig, together):
    """What it has recorded is undone as well, and its job must not stay running for ever."""

    def defy():
        try:
            together.runs["a"].interrupt(TimedOut)
            wait_until(lambda: False, deadline=timedelta(seconds=20))
        except TimedOut:
            pass

    def collide():
        raise OperationalError("database is locked") from Deadlock(1213, "deadlock")

    claim = together.add("a", defy)
    together.add("b", collide)
    together.run()

    assert rig.job(claim.job_id).state == State.READY
    assert rig.job(claim.job_id).attempts == 0
    assert effects("a") == 0
    assert rig.leases.unconfirmed(since=now()) == []


@pytest.mark.parametrize("carried_out", [True, False])
def test_the_answer_to_commit_may_be_lost(rig, together, monkeypatch, carried_out):
    real_commit = connection._commit

    def commit():
        monkeypatch.undo()
        if carried_out:
            real_commit()
        connection.connection.close()
        raise OperationalError("server closed the connection unexpectedly")

    for name in "abc":
        together.add(name)
    monkeypatch.setattr(connection, "_commit", commit)
    together.run()

    assert together.calls == ["a", "b", "c"]
    assert together.states() == dict.fromkeys("abc", "succeeded" if carried_out else "ready")
    assert [effects(name) for name in "abc"] == [int(carried_out)] * 3


def test_a_commit_that_is_refused_hits_only_who_is_to_blame(rig, together):
    if connection.vendor != "postgresql":
        pytest.skip("only PostgreSQL checks at COMMIT")
    sql("CREATE TABLE fused (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    try:
        together.add("a", lambda: sql("INSERT INTO fused VALUES (1)"))
        together.add("b", lambda: sql("INSERT INTO fused VALUES (2), (2)"), max_attempts=1)
        together.add("c", lambda: sql("INSERT INTO fused VALUES (3)"))
        together.run()
        rows = sql("SELECT id FROM fused ORDER BY id")
    finally:
        sql("DROP TABLE fused")

    assert rows == [(1,), (3,)]
    assert together.states() == {"a": "succeeded", "b": "failed", "c": "succeeded"}
    assert [effects(name) for name in "abc"] == [1, 0, 1]


def test_a_database_that_is_away_is_told_by_the_first_of_them(rig, together, monkeypatch):
    def refuse():
        raise OperationalError("connection refused") from Deadlock(2006, "gone")

    for name in "ab":
        together.add(name)
    connection.close()
    monkeypatch.setattr(connection, "connect", refuse)
    ends = rig.shared.run(list(together.runs.values()), at_work)
    monkeypatch.undo()

    assert together.calls == []
    assert [run for run, _ran in ends] == [together.runs["a"]]
    assert not isinstance(ends[0][1].outcome, Succeeded)


def test_nothing_joins_once_the_budget_is_used_up(rig, together, monkeypatch):
    """So locks are held, and effects unseen, for no longer than the budget and one body."""
    monkeypatch.setattr(shared, "BUDGET", timedelta(minutes=-1))  # round trips are guessed
    for name in "abc":
        together.add(name)

    assert together.run_once(list(together.runs.values())) == ["a"]

    assert together.calls == ["a"]
    assert together.states() == {"a": "succeeded", "b": "running", "c": "running"}


def test_only_the_body_at_work_is_on_the_board_until_the_commit(rig, together, monkeypatch):
    shown, now_at_work = [], []

    @contextmanager
    def board(runs):
        now_at_work.append([rig.runs_by_name[run] for run in runs])
        yield
        now_at_work.pop()

    for name in "ab":
        together.add(name, lambda: shown.append(now_at_work[-1]))
    rig.runs_by_name = {run: name for name, run in together.runs.items()}
    for run in together.runs.values():
        make_short(run)
    finish_many = rig.store.finish_many
    monkeypatch.setattr(
        rig.store,
        "finish_many",
        lambda ends: shown.append(now_at_work[-1]) or finish_many(ends),
    )

    rig.shared.run(list(together.runs.values()), board)

    assert shown == [["a"], ["b"], ["a", "b"]]


# ---- who is short -----------------------------------------------------------------------


def paced(*seconds):
    durations = MeanDuration()
    for one in seconds:
        durations.took(one)
    return durations


def test_a_task_is_short_when_it_has_been_seen_to_be():
    short = SHORT.total_seconds() / 2

    assert not paced(*[short] * (FIRST_RUNS - 1)).short
    assert paced(*[short] * FIRST_RUNS).short
    assert not paced(*[short * 3] * FIRST_RUNS).short


def test_one_long_run_keeps_the_next_ones_apart():
    short = SHORT.total_seconds() / 2

    assert not paced(*[short] * 50, 1.0).short
    assert not paced(*[short] * 50, 1.0, *[short] * 30).short
    assert paced(*[short] * 50, 1.0, *[short] * 500).short


def test_what_a_body_waits_for_the_database_does_not_count(rig, monkeypatch):
    """So short bodies share a commit on a distant database, too."""
    clock = [0.0]
    for module in (executor, transaction_module):
        monkeypatch.setattr(module, "now", lambda: clock[0])

    def distant(execute, *given):
        clock[0] += 2 * SHORT.total_seconds()
        return execute(*given)

    def body(_context):
        for _number in range(3):
            sql("SELECT 1")

    run = rig.hold(rig.claim(rig.enqueue(body, atomic=True)))
    # Not by execute_wrapper(), which removes the last wrapper: the rig adds one meanwhile.
    connection.execute_wrappers.append(distant)
    try:
        for _number in range(FIRST_RUNS):
            rig.execute_run(run)
    finally:
        connection.execute_wrappers.remove(distant)

    assert run.facts.durations.short


def test_who_must_stay_apart_is_never_short():
    durations = paced(*[0.0] * FIRST_RUNS)
    durations.keep_apart()

    assert not durations.short


# ---- in the pool ------------------------------------------------------------------------


class Company:
    """Stands for ``SharedTransactions``: takes two at a time, and remembers who came together.

    It owns the runs as well, and notes who has ended.
    """

    def __init__(self, rig):
        self._rig = rig
        self.executor = rig.executor
        self.batches = []
        self.over = []

    def hold(self, number):
        """Return so many runs that go together."""
        runs = [
            self._rig.hold(self._rig.claim(self._rig.enqueue(leave, atomic=True)), owner=self)
            for _ in range(number)
        ]
        for run in runs:
            run.facts.group = self
        return runs

    def ended(self, ends):
        self.over += [run for run, _result in ends]

    def accepts(self, run):
        return True

    def most(self, run):
        return None

    def run(self, runs, at_work):
        self.batches.append([run.claim.job_id for run in runs])
        return [(run, RunResult(outcome=Succeeded())) for run in runs[:2]]


def test_the_pool_puts_back_in_order_what_did_not_begin(rig):
    company = Company(rig)
    pool = Pool(1)
    runs = company.hold(6)
    pool.submit(runs)
    pool.start()
    wait_until(lambda: len(company.over) == 6)
    pool.stop(timedelta(seconds=5))

    ids = [run.claim.job_id for run in runs]
    assert company.batches == [ids, ids[2:], ids[4:]]
    assert company.over == runs
    assert rig.job(ids[0]).state == State.RUNNING  # nobody has recorded anything here


class SlowCompany(Company):
    """Takes all that come together, for as long as the test wants."""

    def __init__(self, rig):
        super().__init__(rig)
        self.go_on = threading.Event()

    def run(self, runs, at_work):
        self.batches.append(runs)
        self.go_on.wait(20)
        return [(run, RunResult(outcome=Succeeded())) for run in runs]


def test_what_comes_while_shared_transactions_take_long_is_done_by_others(rig):
    company = SlowCompany(rig)
    pool = Pool(2)
    *together, last = company.hold(3)
    pool.start()
    pool.submit(together)
    wait_until(lambda: company.batches == [together])

    pool.submit([last])

    wait_until(lambda: company.over == [last])
    company.go_on.set()
    wait_until(lambda: len(company.over) == 3)
    pool.stop(timedelta(seconds=5))
