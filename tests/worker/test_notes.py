"""Progress, log and checkpoints of tasks that run."""

import asyncio
import contextvars
import logging
import sys
import threading
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.db import DataError, connection, transaction
from django.template import Context, Template
from django.urls import reverse
from django.utils import timezone

from aftercommit import task
from aftercommit.enqueue import registry
from aftercommit.errors import ClaimLost, NotRunByWorker, PayloadError, PayloadTooLarge
from aftercommit.models import Job, LogLine, Progress, Saved, State
from aftercommit.notes import MOST, JobProgress
from aftercommit.options.conf import BackendOptions
from aftercommit.worker import notes as notes_module
from aftercommit.worker.running.context import JobContext
from tests.store.callers import statements
from tests.waiting import wait_until
from tests.worker.rig import Rig, another_connection, commits, effects, leave, work

pytestmark = [commits]

shop = logging.getLogger("shop")


def progress(job):
    """Return what is in the table about a job."""
    return Progress.objects.filter(job_id=job.id).values_list("done", "total", "message").first()


def messages(job):
    """Return the log lines of a job."""
    lines = LogLine.objects.filter(job_id=job.id).order_by("id")
    return list(lines.values_list("message", flat=True))


def count_statements(table):
    """Return what an ``execute_wrapper`` counts about a table, and the wrapper."""
    found = []

    def watch(execute, sql, params, many, context):
        if table in sql:
            found.append(sql)
        return execute(sql, params, many, context)

    return found, watch


# ---- who does not use it -----------------------------------------------------------------


@pytest.mark.parametrize("atomic", [False, True])
def test_a_task_that_notes_nothing_sends_no_statement_for_it(rig, atomic):
    job_id = rig.enqueue(lambda context: 1, atomic=atomic)
    claim = rig.claim(job_id)
    run = rig.hold(claim)
    with statements() as sent:
        rig.finish(claim, rig.execute_run(run))

    tables = ("aftercommit_progress", "aftercommit_logline", "aftercommit_saved")
    assert not [sql for sql, _given in sent if any(table in sql for table in tables)]
    assert run.notes is None


def test_without_a_worker_the_context_says_so():
    context = JobContext(task_result=None)
    for use in (
        lambda: context.progress(1),
        lambda: context.log,
        lambda: context.save(1),
        lambda: context.saved,
        lambda: context.once("a", int),
    ):
        with pytest.raises(NotRunByWorker):
            use()


# ---- progress ----------------------------------------------------------------------------


@pytest.mark.parametrize("atomic", [False, True])
def test_the_last_progress_is_there_when_the_outcome_is(rig, atomic):
    def body(context):
        for number in range(1, 1001):
            context.progress(number, 1000, f"row {number}")

    assert progress(rig.run(body, atomic=atomic)) == (1000, 1000, "row 1000")


def test_many_calls_are_one_write(rig):
    def body(context):
        for number in range(1000):
            context.progress(number)

    found, watch = count_statements("INSERT INTO aftercommit_progress")
    job_id = rig.enqueue(body)
    claim = rig.claim(job_id)
    with connection.execute_wrapper(watch):
        rig.finish(claim, rig.execute(claim))

    assert len(found) == 1


def test_a_run_that_fails_and_is_rolled_back_leaves_its_progress(rig):
    def body(context):
        leave("gone")
        context.progress(3, 4)
        context.log.error("no")
        raise ValueError

    job = rig.run(body, atomic=True, max_attempts=1)

    assert job.state == State.FAILED
    assert progress(job) == (3, 4, "")
    assert messages(job) == ["no"]
    assert effects("gone") == 0


def test_an_async_task_says_how_far_it_is(rig):
    async def body(context):
        context.progress(1, 2)
        context.log.info("half")
        await context.asave({"page": 1})
        return await context.asaved()

    job = rig.run(body)

    assert job.return_value == {"page": 1}
    assert progress(job) == (1, 2, "")
    assert messages(job) == ["half"]


@pytest.mark.parametrize("given", [(-1,), (1.5,), (True,), ("1",), (MOST + 1,), (1, "2")])
def test_a_progress_that_is_no_whole_number_is_a_type_error(rig, given):
    def body(context):
        with pytest.raises(TypeError, match="expected a whole number"):
            context.progress(*given)

    job = rig.run(body)

    assert job.state == State.SUCCEEDED
    assert progress(job) is None


def test_a_message_that_no_database_takes_is_made_readable(rig):
    job = rig.run(lambda context: context.progress(1, message="a\0b\ud800" + "x" * 300))

    assert progress(job)[2].startswith("a\\x00b\\ud800xxx")


def wait_for_progress(found, seen):
    """Wait until somebody else sees a progress; note it, and say so."""
    with another_connection() as own, own.cursor() as cursor:

        def is_there():
            cursor.execute("SELECT done FROM aftercommit_progress")
            found.extend(cursor.fetchall())
            return found

        wait_until(is_there, why="the progress is there")
    seen.set()


@pytest.mark.usefixtures("one_backend")
def test_a_worker_shows_the_progress_of_a_task_that_goes_on(rig):
    """Also of an atomic one, whose transaction is open: not on SQLite, see there."""
    seen, found = threading.Event(), []
    atomic = connection.vendor != "sqlite"

    def body(context):
        leave("something")
        context.progress(1, 2)
        assert seen.wait(20)
        context.progress(2, 2)

    job_id = rig.enqueue(body, atomic=atomic)
    thread = threading.Thread(target=wait_for_progress, args=[found, seen])
    thread.start()
    work(threads=1)
    thread.join()

    assert found == [(1,)]
    assert progress(Job.objects.get(pk=job_id)) == (2, 2, "")


@pytest.mark.skipif(connection.vendor != "sqlite", reason="others have several writers")
@pytest.mark.usefixtures("one_backend")
def test_on_sqlite_the_transaction_of_a_task_and_its_progress_do_not_wait_for_each_other(
    rig, monkeypatch
):
    tried = threading.Event()
    write = rig.store.write_notes

    def note_and_write(_store, *given):
        tried.set()
        write(*given)

    monkeypatch.setattr(type(rig.store), "write_notes", note_and_write)

    def body(context):
        leave("something")  # takes the write lock
        context.progress(1, 2)
        assert tried.wait(20)
        context.progress(2, 2)

    job_id = rig.enqueue(body, atomic=True)
    work(threads=1)

    job = Job.objects.get(pk=job_id)
    assert job.state == State.SUCCEEDED
    assert progress(job) == (2, 2, "")


def test_at_most_one_write_a_second(rig, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("aftercommit.worker.upkeep.notes.now", lambda: clock[0])
    writer = rig.rooms.notes
    found, watch = count_statements("INSERT INTO aftercommit_progress")

    def body(context):
        with connection.execute_wrapper(watch):
            for number in range(10):
                context.progress(number)
                writer.step()
        assert len(found) == 1
        clock[0] += 1
        with connection.execute_wrapper(watch):
            writer.step()
        assert len(found) == 2

    assert rig.run(body, max_attempts=1).state == State.SUCCEEDED


# ---- log ---------------------------------------------------------------------------------


def test_the_lines_of_each_attempt_are_kept(rig):
    def body(context):
        context.log.info("attempt %d", context.attempt)
        if context.attempt == 1:
            try:
                raise ValueError("why")
            except ValueError:
                context.log.exception("failed")
            raise RuntimeError

    job_id = rig.enqueue(body)
    rig.run_again(job_id)
    job = rig.run_again(job_id)

    first, failed, second = LogLine.objects.order_by("id")
    assert (first.message, first.attempt, first.level) == ("attempt 1", 1, logging.INFO)
    assert failed.message.startswith("failed\nTraceback")
    assert failed.message.endswith("ValueError: why")
    assert (second.message, second.attempt, second.token) == ("attempt 2", 2, job.token)


def test_the_log_of_a_run_is_bounded(rig, monkeypatch):
    monkeypatch.setattr(notes_module, "FIRST_LINES", 3)
    monkeypatch.setattr(notes_module, "LAST_LINES", 2)
    monkeypatch.setattr(notes_module, "LONGEST_LINE", 10)

    def body(context):
        for number in range(10):
            context.log.info("%d%s", number, "x" * 20)

    kept = messages(rig.run(body))

    assert [line[0] for line in kept if line[0] != "("] == list("01289")
    assert "(5 lines of this run are left out here)" in kept
    assert kept[0] == "0xxxxxxxxx …"


def test_a_run_that_comes_back_to_few_lines_loses_none(rig, monkeypatch):
    monkeypatch.setattr(notes_module, "FIRST_LINES", 3)

    def body(context):
        for number in range(4):
            context.log.info("%d", number)
            rig.rooms.notes.write_all()

    assert messages(rig.run(body)) == ["0", "1", "2", "3"]


def test_only_the_lines_of_the_last_runs_of_a_job_are_kept(rig, monkeypatch):
    monkeypatch.setattr("aftercommit.worker.upkeep.notes.RUNS_KEPT", 2)

    def body(context):
        context.log.info("attempt %d", context.attempt)
        raise ValueError

    job_id = rig.enqueue(body, max_attempts=4)
    for _ in range(4):
        job = rig.run_again(job_id)

    assert messages(job) == ["attempt 3", "attempt 4"]


@pytest.mark.parametrize("atomic", [False, True])
def test_what_a_task_logs_is_kept_if_its_declaration_says_so(rig, atomic, caplog):
    caplog.set_level(logging.DEBUG)

    def body(context):
        shop.info("kept %d", 1)
        shop.debug("too fine")
        logging.getLogger("shop.orders").warning("kept as well")

    job = rig.run(body, keep_log="INFO", atomic=atomic)
    silent = rig.run(body, atomic=atomic)

    assert messages(job) == ["kept 1", "kept as well"]
    assert [line.logger for line in LogLine.objects.order_by("id")] == ["shop", "shop.orders"]
    assert messages(silent) == []


def test_the_backend_says_what_is_usual_and_a_task_may_turn_it_off(transactional_db, caplog):
    caplog.set_level(logging.DEBUG)
    rig = Rig(options=BackendOptions(keep_log="WARNING"))

    def body(context):
        shop.info("no")
        shop.warning("yes")

    try:
        assert messages(rig.run(body)) == ["yes"]
        assert messages(rig.run(body, keep_log="OFF")) == []
        assert messages(rig.run(body, keep_log="INFO")) == ["no", "yes"]
    finally:
        rig.close()


def test_lines_of_neighbours_are_not_kept(rig, caplog):
    caplog.set_level(logging.DEBUG)

    def neighbour():
        shop.warning("of a neighbour")

    def body(context):
        thread = threading.Thread(target=neighbour, **NO_CONTEXT)
        thread.start()
        thread.join()
        mine = threading.Thread(
            target=contextvars.copy_context().run, args=[shop.warning, "mine"]
        )
        mine.start()
        mine.join()

    job = rig.run(body, keep_log="INFO")
    shop.warning("after the run")

    assert messages(job) == ["mine"]


# Before Python 3.14 a thread begins with an empty context anyway.
NO_CONTEXT = {"context": contextvars.Context()} if sys.version_info >= (3, 14) else {}


def test_async_neighbours_keep_their_lines_apart(rig, caplog):
    caplog.set_level(logging.DEBUG)

    async def body(context):
        for _ in range(3):
            shop.info("%s", context.job_id)
            await asyncio.sleep(0)

    ids = [rig.enqueue(body, keep_log="INFO") for _ in "12"]
    claims = [rig.claim(job_id) for job_id in ids]

    async def both():
        return await asyncio.gather(*(rig.executor.arun(rig.hold(one)) for one in claims))

    for claim, result in zip(claims, asyncio.run(both()), strict=True):
        rig.finish(claim, result)

    assert [messages(rig.job(job_id)) for job_id in ids] == [[str(one)] * 3 for one in ids]


def test_secrets_of_the_settings_are_not_kept(rig, settings):
    settings.STRIPE_API_KEY = "sk_live_0123456789"
    settings.OTHERS = {"mail": [{"PASSWORD": "correct horse"}], "harmless": "correct"}

    def body(context):
        context.log.info("key %s of postgres://u:geheim@host/db", settings.STRIPE_API_KEY)
        context.log.info("correct horse, %s", settings.SECRET_KEY)
        context.log.info("%s correct", settings.AUTHENTICATION_BACKENDS[0])
        context.progress(1, message="sk_live_0123456789")

    job = rig.run(body)

    assert messages(job) == [
        "key *** of postgres://u:***@host/db",
        "***, ***",
        "django.contrib.auth.backends.ModelBackend correct",
    ]
    assert progress(job)[2] == "***"


def test_a_line_that_cannot_be_formatted_does_not_end_the_task(rig, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)

    class Odd:
        def __str__(self):
            raise ValueError

    def body(context):
        context.log.info("%s", Odd())
        context.log.info("a\0b \x1b[31m")

    job = rig.run(body)

    assert job.state == State.SUCCEEDED
    assert messages(job) == ["a\\x00b \\x1b[31m"]


# ---- checkpoints -------------------------------------------------------------------------


def test_a_checkpoint_comes_back_after_a_retry(rig):
    seen = []

    def body(context):
        seen.append(context.saved)
        context.save({"page": len(seen)})
        assert context.saved == {"page": len(seen)}
        if len(seen) < 3:
            raise ValueError

    job_id = rig.enqueue(body)
    for _ in "123":
        rig.run_again(job_id)

    assert seen == [None, {"page": 1}, {"page": 2}]


def test_the_first_run_reads_no_checkpoint(rig):
    job_id = rig.enqueue(lambda context: context.saved)
    claim = rig.claim(job_id)
    found, watch = count_statements("aftercommit_saved")
    with connection.execute_wrapper(watch):
        rig.execute(claim)

    assert found == []


def test_a_checkpoint_in_a_transaction_is_a_part_of_it(rig):
    def body(context):
        if context.attempt > 1:
            return context.saved
        with transaction.atomic():
            leave("first")
            context.save(1)
        with transaction.atomic():
            leave("second")
            context.save(2)
            raise ValueError

    job_id = rig.enqueue(body)
    rig.run_again(job_id)
    job = rig.run_again(job_id)

    assert job.return_value == 1
    assert (effects("first"), effects("second")) == (1, 0)


@pytest.mark.parametrize("way", ["atomic", "commit"])
def test_a_checkpoint_in_the_transaction_of_the_job_goes_with_it(rig, alone_and_in_company, way):
    def body(context):
        if context.attempt > 1:
            return context.saved
        if way == "atomic":
            context.save(1)
            raise ValueError
        with context.commit():
            context.save(1)
            raise ValueError

    job_id = rig.enqueue(body, atomic=way == "atomic")
    rig.run_again(job_id)

    assert rig.run_again(job_id).return_value is None


def test_a_zombie_hears_that_its_claim_is_lost_and_changes_nothing(rig):
    def body(context):
        successor = rig.lose(rig.claims[0])
        with pytest.raises(ClaimLost):
            context.save("late")
        assert rig.store.save(successor, '"current"')
        with pytest.raises(ClaimLost):
            context.save("late")
        context.save("late")

    rig.run(body)

    assert Saved.objects.get().value == '"current"'


def test_a_zombie_that_knows_of_its_loss_sends_nothing(rig):
    def body(context):
        rig.hold(rig.claims[0]).lost = True
        with pytest.raises(ClaimLost):
            context.save(1)

    rig.run(body)

    assert Saved.objects.count() == 0


@pytest.mark.parametrize(
    ("value", "error"), [(object(), PayloadError), ("x" * 2_000_000, PayloadTooLarge)]
)
def test_a_checkpoint_must_be_json_and_small(rig, value, error):
    def body(context):
        with pytest.raises(error, match="checkpoint"):
            context.save(value)

    assert rig.run(body).state == State.SUCCEEDED


# ---- with the row ------------------------------------------------------------------------


@pytest.mark.parametrize("atomic", [False, True])
def test_the_notes_of_a_job_whose_row_goes_with_its_success_go_as_well(rig, atomic):
    def body(context):
        context.log.info("one")
        context.progress(1)
        if not atomic:
            rig.rooms.notes.write_all()
            assert LogLine.objects.count() == 1
        context.save(1)

    job_id = rig.enqueue(body, keep_result=None, atomic=atomic)
    claim = rig.claim(job_id)
    rig.finish(claim, rig.execute(claim))
    rig.rooms.notes.write_all()

    assert rig.store.job(job_id) is None
    assert [model.objects.count() for model in (Progress, LogLine, Saved)] == [0, 0, 0]


# ---- the database is away ----------------------------------------------------------------


def test_notes_that_the_database_refuses_do_not_keep_an_outcome(rig, monkeypatch):
    refused = []

    def refuse(*_given):
        refused.append(1)
        raise DataError("no")

    monkeypatch.setattr(rig.store, "write_notes", refuse)
    job = rig.run(lambda context: context.progress(1))

    assert job.state == State.SUCCEEDED
    assert len(refused) == 1


def test_notes_that_could_not_be_written_are_written_later_in_their_order(rig, monkeypatch):
    write = rig.store.write_notes
    failing = [True]

    def perhaps(*given):
        if failing:
            failing.clear()
            raise RuntimeError
        write(*given)

    monkeypatch.setattr(rig.store, "write_notes", perhaps)

    def body(context):
        context.log.info("one")
        context.progress(1)
        with pytest.raises(RuntimeError):
            rig.rooms.notes.write_all()
        context.log.info("two")

    job = rig.run(body)

    assert messages(job) == ["one", "two"]
    assert progress(job)[0] == 1


# ---- read by others ----------------------------------------------------------------------


def log_much(context):
    """Log more than one page has."""
    for number in range(5):
        context.log.info("line %d <b>", number)
    context.progress(1, 3, "a third")
    context.save({"page": 1})


def test_a_result_shows_progress_and_log(rig, monkeypatch):
    monkeypatch.setattr("aftercommit.store.notes.ONE_READ", 2)
    task = declared(log_much, takes_context=True)
    result = task.enqueue()
    assert result.progress is None
    assert list(result.log) == []
    claim = rig.claim(UUID(result.id))
    rig.finish(claim, rig.execute(claim))

    async def read():
        return await result.aprogress(), [line async for line in result.log]

    found, lines = async_to_sync(read)()
    page = Template(
        "{{ result.progress.percent }} %{% for line in result.log %};{{ line.message }}"
        "{% endfor %}"
    ).render(Context({"result": result}))

    assert (result.progress.percent, result.progress.message) == (33, "a third")
    assert found == result.progress
    assert lines == list(result.log)
    assert len(result.log) == len(lines) == 5
    assert result.log.last(2) == lines[-2:]
    assert page.startswith("33 %;line 0 &lt;b&gt;;line 1")


def declared(function, **options):
    """Declare a task of a function, once."""
    return registry.registered(f"{__name__}.{function.__name__}") or task(**options)(function)


@pytest.mark.parametrize(
    ("done", "total", "percent"),
    [(0, 0, 100), (0, 3, 0), (999, 1000, 99), (5, 3, 100), (1, None, None)],
)
def test_percent_is_100_only_if_all_is_done(done, total, percent):
    found = JobProgress(done=done, total=total, message="", changed_at=timezone.now())

    assert found.percent == percent


def test_the_page_of_a_job_shows_what_its_runs_noted(rig, client):
    client.force_login(User.objects.create_superuser("boss"))
    job = rig.run(log_much)
    plain = rig.run(lambda context: context.progress(5))

    page = client.get(reverse("admin:aftercommit_job_change", args=[job.id])).content.decode()
    other = client.get(reverse("admin:aftercommit_job_change", args=[plain.id]))

    assert '<progress value="1" max="3"></progress> 33 % (1 / 3) · a third' in page
    assert "INFO line 4 &lt;b&gt;" in page
    assert "{&quot;page&quot;:1}" in page
    assert other.status_code == 200


def test_the_pruner_deletes_what_belongs_to_no_job(rig, monkeypatch):
    monkeypatch.setattr("aftercommit.worker.upkeep.pruner.BATCH", 2)
    jobs = [rig.run(log_much) for _ in range(5)]
    Job.objects.filter(id__in=[job.id for job in jobs[1:]]).delete()
    pruner = rig.rooms.pruner
    pruner._begins = 0

    for _ in range(5):
        pruner.step()

    assert {line.job_id for line in LogLine.objects.all()} == {jobs[0].id}
    assert Progress.objects.count() == Saved.objects.count() == 1
    with statements() as sent:
        pruner.step()
    assert not [sql for sql, _given in sent if "logline" in sql]  # once a day
