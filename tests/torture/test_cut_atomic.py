"""A connection that breaks at any statement around the body of an atomic task.

The statement may have arrived or not. Whatever it was, it is nobody's fault: the job is given
back, no attempt is spent, and a COMMIT in doubt is settled by the row.
"""

import contextlib
import re
from datetime import timedelta

import pytest
from django.db import connection

from aftercommit.models import Job, State
from aftercommit.values import Succeeded
from aftercommit.worker.running.atomic import shared
from tests.torture.cutproxy import CutProxy, Rule
from tests.torture.test_ambiguous_commit import pattern, proxy, through
from tests.worker.rig import Rig, at_work, effects, leave, make_short, sql

__all__ = ["proxy"]

pytestmark = pytest.mark.skipif(
    connection.vendor == "sqlite", reason="SQLite has no connection that could be cut"
)

SUCCESS = {
    "postgresql": pattern(r"SET state = 'succeeded'"),
    "mysql": pattern(r"UPDATE .?aftercommit_job.*'succeeded'"),
}
BEGIN = {"postgresql": pattern(r"BEGIN"), "mysql": pattern(r"SET AUTOCOMMIT = 0|autocommit")}
STATEMENTS = {
    "begin": BEGIN.get(connection.vendor),
    "savepoint": pattern(r"(?<!RELEASE )(?<!TO )SAVEPOINT"),
    "release": pattern(r"RELEASE SAVEPOINT"),
    "finish": SUCCESS.get(connection.vendor),
    "commit": pattern(r"(?<!AUTO)COMMIT"),
}
UNDOING = {
    "rollback to": pattern(r"ROLLBACK TO SAVEPOINT"),
    "rollback": pattern(r"ROLLBACK(?! TO)"),
}


@pytest.fixture(autouse=True)
def time_enough(monkeypatch):
    """Let all of a company join, however slow the machine is."""
    monkeypatch.setattr(shared, "BUDGET", timedelta(minutes=1))
    monkeypatch.setattr(shared, "LONGEST", timedelta(minutes=1))


both_ways = pytest.mark.parametrize("when", ["before", "after"])
KINDS = ("atomic", "commit", "company")


class Cut:
    """Jobs that run in a thread whose connection is cut once."""

    def __init__(self, proxy: CutProxy, statement: re.Pattern[bytes], when: str) -> None:
        self._proxy = proxy
        self._rule = Rule(statement=statement, when=when)
        self.rig = Rig()

    def run(self, kind, body) -> list[Job]:
        """Enqueue, claim and run them; the connection is cut while they run, and only then."""
        rig = self.rig
        task = {"atomic": kind != "commit", "max_attempts": 5}
        number = 3 if kind == "company" else 1
        claims = [rig.claim(rig.enqueue(body, **task)) for _number in range(number)]
        runs = [rig.hold(claim) for claim in claims]
        for run in runs:
            make_short(run)

        def work():
            sql("SELECT 1")
            rig.connections.prepare()
            with self._proxy.cutting(self._rule, most=1):
                if kind == "company":
                    results = rig.shared.run(runs, at_work)
                else:
                    results = [(runs[0], rig.executor.run(runs[0]))]
            assert self._proxy.cuts == 1
            for run, result in results:
                rig.finisher.put(run, result)
            left = [run for run in runs if run not in dict(results)]
            for run in left:  # as the pool does with what has not begun
                rig.connections.tidy()
                rig.connections.prepare()
                rig.finisher.put(run, rig.executor.run(run))
            rig.connections.tidy()
            rig.finish_whatever_happens()

        through(self._proxy, work)
        return [rig.job(claim.job_id) for claim in claims]


def in_commit(kind, part):
    """Return a body that does its part in the way of this kind."""

    def body(context):
        with context.commit() if kind == "commit" else contextlib.nullcontext():
            part(str(context.job_id))

    return body


@both_ways
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("statement", STATEMENTS)
def test_a_cut_is_a_conflict(transactional_db, proxy, kind, statement, when):
    cut = Cut(proxy, STATEMENTS[statement], when)
    jobs = cut.run(kind, in_commit(kind, leave))

    for job in jobs:
        assert job.error_list == []
        if job.state == State.SUCCEEDED:  # in company, those that were repeated alone
            assert (job.attempts, effects(str(job.id))) == (1, 1)
        else:
            assert (job.state, job.attempts, job.conflicts) == (State.READY, 0, 1)
            assert effects(str(job.id)) == 0
    settled = statement == "commit" and when == "after"
    given_back = kind != "company" or statement == "commit"
    if settled or given_back:
        assert {job.state for job in jobs} == {State.SUCCEEDED if settled else State.READY}
    told = [ran.outcome for _claim, ran in cut.rig.written]
    assert len(told) == len(jobs)
    assert told.count(Succeeded()) == sum(job.state == State.SUCCEEDED for job in jobs)
    assert cut.rig.lost == []


@both_ways
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("statement", UNDOING)
def test_a_cut_while_a_failed_run_is_undone_hides_no_error(
    transactional_db, proxy, kind, statement, when
):
    """The run has failed by itself; no other error takes the place of its own."""
    if statement == "rollback" and kind == "company":
        pytest.skip("in company the error of one is undone by its savepoint")

    def part(key):
        leave(key)
        raise ValueError(key)

    cut = Cut(proxy, UNDOING[statement], when)
    for job in cut.run(kind, in_commit(kind, part)):
        assert (job.state, job.attempts, job.conflicts) == (State.READY, 1, 0)
        assert [one["exception_class_path"] for one in job.error_list] == ["builtins.ValueError"]
        assert effects(str(job.id)) == 0
