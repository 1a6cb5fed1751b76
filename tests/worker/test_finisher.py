"""The finisher: what becomes of the ends of runs."""

from datetime import timedelta

import pytest
from django.db import OperationalError

from aftercommit.models import Job, State
from aftercommit.store.held_up import EndsHeldUp
from aftercommit.values import Cancelled, Failed, Released, Retry, RunError, RunResult, Succeeded
from aftercommit.worker.upkeep import finisher
from aftercommit.worker.upkeep.finisher import Finisher
from tests.worker.rig import commits

pytestmark = commits

ERROR = RunError(exception_class_path="builtins.ValueError", traceback="no such page")
LATER = timedelta(hours=1)
DONE = RunResult(outcome=Succeeded("1"))
AWAY = OperationalError("the server does not answer")


def claims_of(rig, number):
    """Return claims on so many jobs."""
    return [rig.claim(rig.enqueue(lambda context: None)) for _number in range(number)]


def hand_over(rig, claims, ran=DONE):
    """Give the finisher the ends of runs."""
    for claim in claims:
        rig.hold(claim)
        rig.put(claim, ran)


def states():
    """Return the states of all jobs, without repetition."""
    return set(Job.objects.values_list("state", flat=True))


class Spy:
    """Counts the calls of a store's method; the first of them may fail."""

    def __init__(self, monkeypatch, rig, name, *, failures=0, carried_out=False):
        self.calls = 0
        self._real = getattr(rig.store, name)
        self._failures = failures
        self._carried_out = carried_out
        monkeypatch.setattr(rig.store, name, self)
        if failures:
            usable = rig.store.connection.is_usable
            monkeypatch.setattr(
                rig.store.connection,
                "is_usable",
                lambda: usable() if self.calls > failures else False,
            )

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls > self._failures:
            return self._real(*args, **kwargs)
        if self._carried_out:
            self._real(*args, **kwargs)
        raise AWAY


# ---- batches --------------------------------------------------------------------------


def test_what_is_handed_over_is_written_at_once(rig, monkeypatch):
    claims = claims_of(rig, 5)
    spy = Spy(monkeypatch, rig, "finish_many")
    hand_over(rig, claims)

    assert rig.finisher.write()

    assert spy.calls == 1
    assert states() == {State.SUCCEEDED}
    assert [claim for claim, _ran in rig.written] == claims
    assert rig.finisher.empty
    assert len(rig.runs) == 0


def test_a_batch_has_a_largest_size(rig, monkeypatch):
    monkeypatch.setattr(finisher, "LARGEST_BATCH", 2)
    hand_over(rig, claims_of(rig, 5))

    writes = [rig.finisher.write() for _number in range(4)]

    assert writes == [True, True, True, False]
    assert len(rig.written) == 5
    assert states() == {State.SUCCEEDED}


def test_the_history_says_when_a_run_began_and_how_long_its_body_took(rig):
    (claim,) = claims_of(rig, 1)
    rig.hold(claim).took = 1.5
    rig.put(claim, RunResult(outcome=Failed(RunError(exception_class_path="E", traceback=""))))

    assert rig.finisher.write()

    (entry,) = Job.objects.get().error_list
    assert (entry["claimed_at"], entry["took"]) == (claim.claimed_at.isoformat(), 1.5)


def test_nothing_handed_over_is_nothing_to_write(rig, monkeypatch):
    spy = Spy(monkeypatch, rig, "finish_many")

    assert not rig.finisher.write()

    assert spy.calls == 0


def test_what_is_in_the_table_is_told_and_not_written_again(rig, monkeypatch):
    (claim,) = claims_of(rig, 1)
    rig.store.finish(claim, DONE.outcome)
    spy = Spy(monkeypatch, rig, "finish_many")

    hand_over(rig, [claim], RunResult(outcome=DONE.outcome, recorded=True))
    rig.finisher.write()

    assert spy.calls == 0
    assert [one for one, _ran in rig.written] == [claim]
    assert rig.lost == []


# ---- claims that were lost -----------------------------------------------------------


def test_a_lost_claim_is_told_and_changes_nothing(rig):
    (claim,) = claims_of(rig, 1)
    successor = rig.lose(claim)
    (other,) = claims_of(rig, 1)
    hand_over(rig, [claim, other], RunResult(outcome=Failed(ERROR)))

    rig.finisher.write()

    assert rig.lost == [claim]
    assert [one for one, _ran in rig.written] == [other]
    job = rig.job(claim.job_id)
    assert (job.state, job.token) == (State.RUNNING, successor.token)
    assert len(rig.runs) == 0


def test_of_two_ends_of_one_claim_the_first_counts(rig):
    (claim,) = claims_of(rig, 1)
    hand_over(rig, [claim])
    hand_over(rig, [claim], RunResult(outcome=Failed(ERROR)))

    writes = [rig.finisher.write() for _number in range(3)]

    assert writes == [True, True, False]
    assert rig.written == [(claim, DONE)]
    assert rig.lost == [claim]
    assert states() == {State.SUCCEEDED}


# ---- outcomes that the database refuses -----------------------------------------------


def test_an_outcome_that_cannot_be_stored_is_replaced(rig):
    """And neither its job nor the others of its batch stay running."""
    first, refused, last = claims_of(rig, 3)
    hand_over(rig, [first])
    hand_over(rig, [refused], RunResult(outcome=Succeeded('"\ud800"')))  # no encoding knows it
    hand_over(rig, [last])

    rig.finisher.write()

    assert rig.finisher.empty
    assert rig.job(first.job_id).state == rig.job(last.job_id).state == State.SUCCEEDED
    job = rig.job(refused.job_id)
    assert job.state == State.FAILED
    assert "could not be stored" in job.error_list[0]["traceback"]
    assert len(rig.runs) == 0


def test_a_row_that_is_locked_for_too_long_is_written_later(rig, monkeypatch, vendor):
    locked, other = claims_of(rig, 2)
    hand_over(rig, [locked, other])
    real_one, real_many = rig.store.finish, rig.store.finish_many
    busy = [True]

    def finish(claim, outcome):
        if claim is locked and busy:
            raise conflict_of(vendor)
        return real_one(claim, outcome)

    def finish_many(ends):
        if busy and any(claim is locked for claim, _outcome in ends):
            raise conflict_of(vendor)
        return real_many(ends)

    monkeypatch.setattr(rig.store, "finish", finish)
    monkeypatch.setattr(rig.store, "finish_many", finish_many)
    with pytest.raises(OperationalError):
        rig.finisher.write()
    assert [claim for claim, _ran in rig.written] == [other]
    assert not rig.finisher.empty

    busy.clear()
    rig.finisher.write()

    assert [claim for claim, _ran in rig.written] == [other, locked]
    assert states() == {State.SUCCEEDED}
    assert rig.lost == []


def test_an_end_that_is_held_up_is_written_later_and_the_others_together(rig, monkeypatch):
    held_up, *others = claims_of(rig, 3)
    hand_over(rig, [held_up, *others])
    real, busy = rig.store.finish_many, [True]

    def finish_many(ends):
        if not busy:
            return real(ends)
        written = real([one for one in ends if one[0] is not held_up])
        raise EndsHeldUp([held_up.job_id], written)

    monkeypatch.setattr(rig.store, "finish_many", finish_many)
    one_by_one = Spy(monkeypatch, rig, "finish")
    with pytest.raises(EndsHeldUp):
        rig.finisher.write()
    assert [claim for claim, _ran in rig.written] == others
    assert one_by_one.calls == 0

    busy.clear()
    rig.finisher.write()

    assert [claim for claim, _ran in rig.written] == [*others, held_up]
    assert rig.lost == []


def conflict_of(vendor):
    """Return what a driver says of a row that stays locked, as Django passes it on."""
    error = OperationalError("database is locked")
    cause = Exception(1205, "Lock wait timeout exceeded")
    cause.sqlstate = "55P03" if vendor == "postgresql" else None
    error.__cause__ = None if vendor == "sqlite" else cause
    return error


# ---- a database that is away ----------------------------------------------------------


def test_nothing_is_forgotten_while_the_database_is_away(rig, monkeypatch):
    claims = claims_of(rig, 3)
    spy = Spy(monkeypatch, rig, "finish_many", failures=2)
    hand_over(rig, claims[:2])
    for _number in range(2):
        with pytest.raises(OperationalError):
            rig.finisher.write()
    assert not rig.finisher.empty
    assert len(rig.runs) == 2  # their leases are renewed

    hand_over(rig, claims[2:])
    rig.finisher.write()

    assert spy.calls == 3
    assert [claim for claim, _ran in rig.written] == claims
    assert states() == {State.SUCCEEDED}
    assert rig.finisher.empty


@pytest.mark.parametrize(
    "outcome",
    [Succeeded("1"), Failed(ERROR), Cancelled(ERROR), Retry(ERROR, LATER), Released(LATER)],
    ids=lambda outcome: type(outcome).__name__,
)
def test_a_write_whose_answer_was_lost_is_no_lost_claim(rig, monkeypatch, outcome):
    (claim,) = claims_of(rig, 1)
    Spy(monkeypatch, rig, "finish_many", failures=1, carried_out=True)
    hand_over(rig, [claim], RunResult(outcome=outcome))
    with pytest.raises(OperationalError):
        rig.finisher.write()

    rig.finisher.write()

    assert [(one, ran.outcome) for one, ran in rig.written] == [(claim, outcome)]
    assert rig.lost == []


def test_a_claim_that_was_lost_while_the_database_was_away_is_lost(rig, monkeypatch):
    (claim,) = claims_of(rig, 1)
    Spy(monkeypatch, rig, "finish_many", failures=1)
    hand_over(rig, [claim])
    with pytest.raises(OperationalError):
        rig.finisher.write()

    rig.store.finish(rig.lose(claim), Succeeded("2"))
    rig.finisher.write()

    assert rig.written == []
    assert rig.lost == [claim]
    assert rig.job(claim.job_id).return_value == 2


def test_of_two_ends_of_one_claim_the_first_counts_although_the_answer_to_the_other_is_lost(
    rig, monkeypatch
):
    (claim,) = claims_of(rig, 1)
    released = RunResult(outcome=Released(LATER))
    hand_over(rig, [claim], released)
    rig.finisher.write()
    Spy(monkeypatch, rig, "finish_many", failures=1, carried_out=True)
    hand_over(rig, [claim], RunResult(outcome=Failed(ERROR)))
    with pytest.raises(OperationalError):
        rig.finisher.write()

    rig.finisher.write()

    assert rig.written == [(claim, released)]
    assert rig.lost == [claim]
    assert rig.job(claim.job_id).state == State.READY


# ---- those who listen ------------------------------------------------------------------


def test_a_listener_that_fails_does_not_keep_the_others_from_hearing(rig, caplog):
    claims = claims_of(rig, 3)
    runs = [rig.hold(claim) for claim in claims]
    heard = []

    def recorded(ends):
        heard.extend(run for run, _result in ends)
        raise ZeroDivisionError

    room = Finisher(rig.store, rig.runs, rig.announcer, recorded=recorded)
    for run in runs:
        room.put(run, DONE)

    room.write()

    assert heard == runs
    assert [claim for claim, _ran in rig.written] == claims
    assert caplog.text.count("a listener failed") == 3
    assert states() == {State.SUCCEEDED}
