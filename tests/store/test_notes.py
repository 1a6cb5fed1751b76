"""What runs note: it is fenced, it is never in the row of the job, and goes with it."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction

from aftercommit.models import Job, LogLine, Progress, Saved
from aftercommit.notes import NewLine, NewProgress
from aftercommit.store import notes, store_for
from aftercommit.store.mysql import notes as mysql_notes
from aftercommit.store.notes import TABLES, Kept
from aftercommit.values import Succeeded, SucceededAndGone
from tests.store.callers import answer, statements
from tests.store.given import claim_one, job, lost_claim, ready_job

NOTHING = Kept(None)


def progress(claim, done, **given):
    """Return a progress of a run."""
    values = {"total": 10, "message": "", "age": 0.0, **given}
    return NewProgress(job_id=claim.job_id, token=claim.token, done=done, **values)


def line(claim, message, **given):
    """Return a log line of a run."""
    values = {"level": 20, "logger": "", "age": 0.0, **given}
    return NewLine(
        job_id=claim.job_id, token=claim.token, attempt=claim.attempt, message=message, **values
    )


def noted(store, job_id):
    """Return what is in the three tables about a job."""
    return [model.objects.filter(job_id=job_id).count() for model in TABLES]


@pytest.fixture
def claim(store):
    """Return the claim of a job."""
    ready_job(store)
    return claim_one(store)


def note_all(store, claim):
    """Write one row into each table."""
    store.write_notes([progress(claim, 1)], [line(claim, "one")])
    assert store.save(claim, "7")
    assert noted(store, claim.job_id) == [1, 1, 1]


# ---- progress and log ---------------------------------------------------------------


def test_progress_and_lines_are_read_as_they_were_written(store, claim):
    store.write_notes(
        [progress(claim, 3, message="pages", age=2.0)],
        [line(claim, "first", age=1.5), line(claim, "é\u2028", level=40, logger="shop")],
    )

    found = store.progress_of([claim.job_id, uuid4()])[claim.job_id]
    (_, first), (place, second) = store.lines_of(claim.job_id)
    assert (found.done, found.total, found.message, found.percent) == (3, 10, "pages", 30)
    assert (first.message, first.attempt, first.run, first.level_name) == ("first", 1, 1, "INFO")
    assert (second.message, second.logger, second.level_name) == ("é\u2028", "shop", "ERROR")
    assert second.logged_at - first.logged_at == timedelta(seconds=1.5)
    assert second.logged_at - found.changed_at == timedelta(seconds=2)
    assert store.lines_of(claim.job_id, after=place) == []
    assert store.last_lines_of(claim.job_id, limit=1) == [second]
    assert store.count_lines(claim.job_id) == 2


def test_a_flush_takes_three_statements_for_many_runs(store):
    claims = []
    for _ in range(5):
        ready_job(store)
        claims.append(claim_one(store))

    with statements() as sent:
        store.write_notes(
            [progress(one, 1) for one in claims], [line(one, "one") for one in claims]
        )

    assert len([one for one in sent if "SAVEPOINT" not in one]) <= 5  # BEGIN and COMMIT as well
    assert Progress.objects.count() == LogLine.objects.count() == 5


def test_notes_do_not_touch_the_row_of_the_job(store, claim):
    before = Job.objects.filter(id=claim.job_id).values().get()

    note_all(store, claim)
    store.record_answer(claim, "charge", "1")

    assert Job.objects.filter(id=claim.job_id).values().get() == before


def test_the_progress_of_a_later_run_is_not_overwritten(store):
    ready_job(store)
    late, current = lost_claim(store)
    store.write_notes([progress(current, 1)], [])

    store.write_notes([progress(late, 9)], [line(late, "late")])

    assert store.progress_of([late.job_id])[late.job_id].done == 1
    assert [entry.run for _place, entry in store.lines_of(late.job_id)] == [late.token]


def test_a_zombie_that_has_read_the_token_before_does_not_overwrite_either(store, monkeypatch):
    ready_job(store)
    late, current = lost_claim(store)
    store.write_notes([progress(current, 1)], [])

    store._write_progress([progress(late, 9)], job(store, late.job_id).enqueued_at)

    assert store.progress_of([late.job_id])[late.job_id].done == 1


def test_nothing_is_written_for_a_job_without_a_row(store, claim):
    Job.objects.filter(id=claim.job_id).delete()

    store.write_notes([progress(claim, 1)], [line(claim, "one")])

    assert noted(store, claim.job_id) == [0, 0, 0]


# ---- checkpoints --------------------------------------------------------------------


def test_a_checkpoint_comes_back_to_the_next_run(store):
    ready_job(store)
    first = claim_one(store, lease=timedelta(minutes=-1))
    assert store.take_saved(first) == NOTHING
    assert store.save(first, '{"page":7}')
    assert store.save(first, '{"page":8}')
    store.rescue(max_crashes=9)

    assert store.take_saved(claim_one(store)) == Kept('{"page":8}')


def test_a_zombie_saves_nothing(store):
    ready_job(store)
    late, current = lost_claim(store)

    assert not store.save(late, '"late"')
    assert store.take_saved(late) is None
    assert store.save(current, '"current"')
    assert not store.save(late, '"late"')
    assert store.take_saved(current) == Kept('"current"')


def test_a_job_that_has_ended_saves_nothing(store, claim):
    store.finish(claim, Succeeded())

    assert not store.save(claim, "1")
    assert Saved.objects.count() == 0


def test_a_rolled_back_save_leaves_nothing(store, claim):
    with transaction.atomic():
        assert store.save(claim, "1")
        transaction.set_rollback(True)

    assert store.take_saved(claim) == NOTHING


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
@pytest.mark.parametrize("saved_before", [True, False])
def test_a_successor_waits_for_a_save_that_is_not_committed(store, other, saved_before):
    """Then either the effects and the checkpoint of the zombie are there, or neither."""
    ready_job(store)
    first = claim_one(store, lease=timedelta(minutes=-1))
    if saved_before:
        assert store.save(first, "1")
    with transaction.atomic():
        assert store.save(first, "2")
        begun = other.start(_lose_and_read)
        assert other.must_wait(begun)

    assert answer(begun) == Kept("2")
    assert not store.save(first, "3")


def late_save(store, other):
    """Let a zombie save after its statement has begun in time, and been kept waiting.

    Returns what the zombie is told, and what is saved then.
    """
    ready_job(store)
    first = claim_one(store, lease=timedelta(minutes=-1))
    assert store.save(first, '"first"')
    with transaction.atomic():
        rows = Saved.objects.select_for_update()
        assert rows.get(job_id=first.job_id, kind="checkpoint", name="")
        begun = other.start(store.save, first, '"zombie"')
        assert other.must_wait(begun)
        store.rescue(max_crashes=9)
        current = claim_one(store)
        assert store.take_saved(current) == Kept('"first"')
    return answer(begun), Saved.objects.get().value


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
def test_a_save_that_began_in_time_and_came_late_changes_nothing(store, other):
    assert late_save(store, other) == (False, '"first"')


@pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has one writer at a time")
def test_without_the_token_in_the_row_it_would(store, other, monkeypatch):
    if connection.vendor == "postgresql":
        guard = "WHERE aftercommit_saved.token <= excluded.token"
        monkeypatch.setattr(notes, "OVERWRITE", notes.OVERWRITE.replace(guard, ""))
    else:

        def change(self, cursor, change, given, _token, found):
            return plain(self, cursor, change, given, 0, found)

        plain = mysql_notes.MySQLNotes._change_saved
        monkeypatch.setattr(mysql_notes.MySQLNotes, "_change_saved", change)

    assert late_save(store, other) == (True, '"zombie"')


@pytest.mark.parametrize(
    "mine", ["", "AND token = %(token)s", "AND state = 'running'"], ids=["", "token", "state"]
)
def test_without_a_part_of_the_fence_a_zombie_saves(store, mine, monkeypatch):
    for module in (notes, mysql_notes):
        monkeypatch.setattr(module, "MINE", mine)
    ready_job(store)
    late, current = lost_claim(store)
    ready_job(store)
    ended = claim_one(store)
    store.finish(ended, Succeeded())

    assert store.save(late, "1") or store.save(ended, "1")
    assert current.token > late.token


def test_without_the_token_in_the_row_old_progress_would_stay(store, monkeypatch):
    if connection.vendor == "mysql":
        weak = "ON DUPLICATE KEY UPDATE done = VALUES(done)"
        monkeypatch.setattr(mysql_notes, "LATER_PROGRESS", weak)
    else:
        weak = "ON CONFLICT (job_id) DO UPDATE SET done = excluded.done"
        monkeypatch.setattr(notes, "LATER_PROGRESS", weak)
    ready_job(store)
    late, current = lost_claim(store)
    store.write_notes([progress(current, 1)], [])

    store._write_progress([progress(late, 9)], job(store, late.job_id).enqueued_at)

    assert store.progress_of([late.job_id])[late.job_id].done == 9


def _lose_and_read():
    store = store_for("default")
    store.rescue(max_crashes=9)
    return store.take_saved(claim_one(store))


# ---- calls that are made once -------------------------------------------------------


def test_the_first_answer_is_recorded_whoever_writes_it(store):
    ready_job(store)
    late, current = lost_claim(store)

    assert store.record_answer(late, "charge", '"late"') == Kept('"late"')
    assert store.record_answer(current, "charge", '"current"') == Kept('"late"')
    assert store.record_answer(current, "mail", "null") == Kept("null")
    assert store.answers_of(late.job_id) == {"charge": '"late"', "mail": "null"}
    assert store.take_saved(current) == NOTHING


def test_names_of_calls_are_compared_by_their_bytes(store, claim):
    store.record_answer(claim, "a", "1")
    store.record_answer(claim, "A", "2")

    assert store.answers_of(claim.job_id) == {"a": "1", "A": "2"}


def test_an_answer_of_a_job_without_a_row_is_not_recorded(store, claim):
    Job.objects.filter(id=claim.job_id).delete()

    assert store.record_answer(claim, "charge", "1") is None
    assert Saved.objects.count() == 0


# ---- with the job -------------------------------------------------------------------


def test_the_success_of_a_later_run_takes_the_notes_with_the_row(store):
    ready_job(store)
    _late, current = lost_claim(store)
    note_all(store, current)

    store.finish(current, SucceededAndGone())

    assert noted(store, current.job_id) == [0, 0, 0]


def test_pruning_takes_the_notes_with_the_rows(store, claim):
    note_all(store, claim)
    store.finish(claim, Succeeded())
    other = claim_one(store) if ready_job(store) else None
    note_all(store, other)

    store.prune(older_than=timedelta(minutes=-1))

    assert noted(store, claim.job_id) == [0, 0, 0]
    assert noted(store, other.job_id) == [1, 1, 1]


def test_pruning_costs_one_statement_where_nobody_notes_anything(store, claim):
    store.finish(claim, Succeeded())
    with statements() as without:
        store.delete_notes([claim.job_id])

    assert len(without) == 1


def test_a_retry_by_hand_keeps_what_was_noted(store, claim):
    note_all(store, claim)
    store.record_answer(claim, "charge", "1")
    store.cancel([claim.job_id])
    Job.objects.filter(id=claim.job_id).update(
        state="failed", unsuccessful=True, finished_at=claim.enqueued_at, cancel_requested=False
    )

    store.retry([claim.job_id])

    assert noted(store, claim.job_id) == [1, 1, 2]
    assert store.take_saved(claim_one(store)) == Kept("7")


def test_notes_of_jobs_that_sql_has_deleted_are_found_and_deleted(store):
    claims = []
    for _ in range(5):
        ready_job(store)
        claims.append(claim_one(store))
        note_all(store, claims[-1])
    gone, kept = claims[1::2], claims[0::2]
    Job.objects.filter(id__in=[one.job_id for one in gone]).delete()

    for model in TABLES:
        place = UUID(int=0)
        steps = 0
        while place is not None:
            place = store.delete_lost_notes(model, after=place, limit=2)
            steps += 1
        assert steps == 3

    assert [noted(store, one.job_id) for one in gone] == [[0, 0, 0]] * 2
    assert [noted(store, one.job_id) for one in kept] == [[1, 1, 1]] * 3


def test_lines_of_early_runs_can_be_forgotten(store):
    ready_job(store)
    late, current = lost_claim(store)
    store.write_notes([], [line(late, "late"), line(current, "current")])

    store.forget_lines(late.job_id, before=current.token)

    assert [entry.message for _place, entry in store.lines_of(late.job_id)] == ["current"]
