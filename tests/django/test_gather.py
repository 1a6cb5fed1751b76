"""gather(): what is enqueued in a block is inserted together, at the end of the block."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from contextvars import copy_context
from datetime import timedelta
from uuid import UUID

import pytest
from asgiref.sync import async_to_sync
from django.db import DatabaseError, connection, connections, transaction
from django.test.utils import CaptureQueriesContext

from aftercommit import deschedule, gather, groups, schedule
from aftercommit._compat import tasks_signals
from aftercommit.errors import GatherMisplaced, GroupHasEnded, NotInsertedYet
from aftercommit.models import Job
from aftercommit.store import insert as inserting
from aftercommit.store import store_for
from aftercommit.values import NewJob
from aftercommit.worker.inline import InlineWorker
from tests.app.models import Account
from tests.databases import ALIASES
from tests.django import tasks, unique_tasks
from tests.django.conftest import in_another_thread

pytestmark = pytest.mark.django_db(transaction=True, databases=ALIASES)
in_a_test_case = pytest.mark.django_db(databases=ALIASES)


class Rollback(Exception):
    """End a block that shall not be committed."""


def keys(using="default"):
    """Return the arguments of the jobs in the table, in the order of their calls."""
    rows = Job.objects.using(using).order_by("id")
    return [one for job in rows for one in job.args]


def insert_twin(job_id):
    """Insert a job with the id of another one, which cannot be inserted any more."""
    twin = NewJob(id=UUID(job_id), task_path="a.b", payload='{"args": ["twin"], "kwargs": {}}')
    in_another_thread(lambda: store_for("default").insert([twin]))


def is_clean():
    """Return whether nothing follows the statements of a connection any more."""
    return not any(one.execute_wrappers for one in connections.all(initialized_only=True))


def inserts(queries):
    """Return the statements that insert jobs."""
    return [
        one
        for one in queries
        if "INSERT INTO aftercommit_job" in one["sql"].replace("`", "").replace('"', "")
    ]


# ---- the end of the block --------------------------------------------------------------


@pytest.mark.parametrize("inside", [True, False], ids=["in a transaction", "outside"])
def test_one_statement_inserts_all_at_the_end(inside):
    around = transaction.atomic() if inside else nullcontext()
    with CaptureQueriesContext(connection) as queries, around:
        with gather():
            results = [tasks.note.enqueue(number) for number in range(20)]
            results += [tasks.anote.using(priority=3).enqueue(20)]
            ids = tasks.note.enqueue_many([(21,), (22,)])
            assert not inserts(queries.captured_queries)
        assert len(inserts(queries.captured_queries)) == 1
        assert keys() == list(range(23))

    assert {str(one) for one in Job.objects.values_list("id", flat=True)} == {
        *(one.id for one in results),
        *ids,
    }
    assert is_clean()


def test_no_other_connection_sees_them_before_the_end():
    with gather():
        tasks.note.enqueue(1)
        before = in_another_thread(keys)

    assert (before, in_another_thread(keys)) == ([], [1])


def test_an_exception_leaves_nothing():
    with transaction.atomic():
        with suppress(Rollback), gather():
            tasks.note.enqueue(1)
            tasks.note.enqueue_many([(2,)])
            raise Rollback
        tasks.note.enqueue(3)

    assert keys() == [3]
    assert is_clean()


def test_a_block_without_jobs_is_no_statement(django_assert_num_queries):
    with django_assert_num_queries(0), gather():
        pass


def test_jobs_keep_the_options_of_their_calls():
    with gather():
        tasks.note.using(priority=5, queue_name="mail", max_attempts=2, tags=["a"]).enqueue()
        tasks.note.enqueue()

    rows = Job.objects.order_by("id").values_list("priority", "queue", "max_attempts", "tags")
    assert list(rows) == [(5, "mail", 2, ["a"]), (0, "default", 5, [])]


def test_what_is_too_much_for_a_statement_is_inserted_in_parts_all_or_none(monkeypatch):
    monkeypatch.setattr(inserting, "MOST_TOGETHER", 3)
    with gather():
        for number in range(8):
            tasks.note.enqueue(number)
    assert keys() == list(range(8))

    with pytest.raises(DatabaseError), gather():
        for number in range(8):
            held = tasks.note.enqueue(f"again {number}")
        insert_twin(held.id)
    assert sorted(map(str, keys())) == [*map(str, range(8)), "twin"]


def test_an_insert_that_fails_leaves_nothing_and_ends_the_block():
    with pytest.raises(DatabaseError), gather():
        tasks.note.enqueue(1)
        insert_twin(tasks.note.enqueue(2).id)
    tasks.note.enqueue(3)

    assert sorted(map(str, keys())) == ["3", "twin"]
    assert is_clean()


# ---- blocks and transactions -----------------------------------------------------------


def test_a_block_inside_another_leaves_its_jobs_to_that_one():
    with CaptureQueriesContext(connection) as queries, gather():
        tasks.note.enqueue(1)
        with gather():
            tasks.note.enqueue(2)
        with suppress(Rollback), gather():
            tasks.note.enqueue(3)
            with gather():
                tasks.note.enqueue(4)
            raise Rollback
        tasks.note.enqueue(5)

    assert keys() == [1, 2, 5]
    assert len(inserts(queries.captured_queries)) == 1


@pytest.mark.parametrize("case", ["in a transaction", "in a TestCase"])
def test_a_savepoint_that_is_rolled_back_takes_its_jobs_along(case):
    with transaction.atomic():
        connection.atomic_blocks[0]._from_testcase = case == "in a TestCase"
        with transaction.atomic(), gather():
            tasks.note.enqueue(1)
            with suppress(Rollback), transaction.atomic():
                tasks.note.enqueue(2)
                with transaction.atomic():
                    tasks.note.enqueue(3)
                raise Rollback
            with transaction.atomic():
                tasks.note.enqueue(4)
                with suppress(Rollback), transaction.atomic():
                    tasks.note.enqueue(5)
                    raise Rollback
            tasks.note.enqueue(6)

    assert keys() == [1, 4, 6]


def test_savepoints_by_hand_count_as_well():
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SAVEPOINT outside")
        with gather():
            tasks.note.enqueue(1)
            cursor.execute("ROLLBACK TO SAVEPOINT outside")  # from before all jobs
            tasks.note.enqueue(2)
            cursor.execute("SAVEPOINT kept")
            tasks.note.enqueue(3)
            cursor.execute("RELEASE SAVEPOINT kept")
            cursor.execute("SAVEPOINT undone")
            tasks.note.enqueue(4)
            cursor.execute("ROLLBACK TO SAVEPOINT undone")
            tasks.note.enqueue(5)
            cursor.execute("ROLLBACK TO SAVEPOINT undone")  # which is there still
            tasks.note.enqueue(6)

    assert keys() == [2, 3, 6]


def test_savepoints_of_the_same_name_hide_each_other():
    with transaction.atomic(), gather(), connection.cursor() as cursor:
        tasks.note.enqueue(1)
        cursor.execute("SAVEPOINT mine")
        tasks.note.enqueue(2)
        cursor.execute("SAVEPOINT mine")
        tasks.note.enqueue(3)
        cursor.execute("ROLLBACK TO SAVEPOINT mine")
        tasks.note.enqueue(4)

    assert keys() == [1, 2, 4]


def test_what_is_inserted_early_outlives_a_rollback_to_a_later_savepoint():
    with transaction.atomic(), gather() as block:
        tasks.note.enqueue(1)
        with suppress(Rollback), transaction.atomic():
            tasks.note.enqueue(2)
            with transaction.atomic():
                block.flush()
            assert keys() == [1, 2]
            raise Rollback
        assert keys() == []
        tasks.note.enqueue(3)

    assert keys() == [1, 3]


def test_a_rollback_to_a_savepoint_brings_back_no_jobs_of_a_block_that_has_failed():
    with transaction.atomic(), gather(), connection.cursor() as cursor:
        with suppress(Rollback), gather():
            tasks.note.enqueue(1)
            cursor.execute("SAVEPOINT mine")
            raise Rollback
        cursor.execute("ROLLBACK TO SAVEPOINT mine")

    assert keys() == []


def test_a_call_for_a_group_that_has_ended_takes_no_other_job_along():
    schedule("tests.app.chores.scheduled", ["a"], group="import")
    ended = groups.latest("import")
    InlineWorker().run()
    Job.objects.all().delete()
    with transaction.atomic(), gather():
        tasks.note.enqueue(1)
        with suppress(GroupHasEnded):
            schedule("tests.app.chores.scheduled", ["b"], group=ended)

    assert keys() == [1]


def test_a_transaction_marked_for_rollback_inserts_nothing():
    with transaction.atomic(), gather():
        tasks.note.enqueue(1)
        transaction.set_rollback(True)

    assert keys() == []


@pytest.mark.parametrize("commits", [True, False])
def test_jobs_of_a_transaction_inside_the_block_are_part_of_that_one(commits):
    with gather():
        tasks.note.enqueue(1)
        with suppress(Rollback), transaction.atomic():
            Account.objects.create()
            tasks.note.enqueue(2)
            if not commits:
                raise Rollback
        seen = in_another_thread(keys)  # a crash here must not lose the job of the account
        tasks.note.enqueue(3)

    assert seen == [2] * commits
    assert keys() == [1, *([2] * commits), 3]


def test_a_block_in_a_transaction_inside_a_block_ends_with_its_own():
    with gather():
        with transaction.atomic():
            with gather():
                tasks.note.enqueue(1)
                tasks.note.enqueue(2)
            assert keys() == [1, 2]
        with suppress(Rollback), transaction.atomic():
            with gather():
                tasks.note.enqueue(3)
            raise Rollback

    assert keys() == [1, 2]


def test_a_transaction_that_ends_before_its_block_is_an_error():
    outer = transaction.atomic()
    outer.__enter__()
    with pytest.raises(GatherMisplaced, match="'default' has ended before the block"), gather():
        tasks.note.enqueue(1)
        outer.__exit__(None, None, None)

    assert keys() == []
    assert is_clean()


def test_without_autocommit_jobs_are_inserted_at_once():
    transaction.set_autocommit(False)
    try:
        with gather():
            tasks.note.enqueue(1)
            assert keys() == [1]
        transaction.commit()
    finally:
        transaction.set_autocommit(True)


def test_callbacks_of_the_commit_find_the_jobs():
    seen = []
    with transaction.atomic(), gather():
        transaction.on_commit(lambda: seen.extend(in_another_thread(keys)))
        tasks.note.enqueue(1)
        transaction.on_commit(lambda: tasks.note.enqueue(2))

    assert (seen, keys()) == ([1], [1, 2])


def test_each_database_has_its_own_jobs():
    with gather():
        tasks.note.enqueue(1)
        tasks.elsewhere.enqueue(2)
        assert (keys(), keys("other")) == ([], [])

    assert (keys(), keys("other")) == ([1], [2])


def test_a_rollback_on_one_database_leaves_the_jobs_of_the_other():
    with transaction.atomic(), gather(), suppress(Rollback), transaction.atomic():
        tasks.note.enqueue(1)
        tasks.elsewhere.enqueue(2)
        raise Rollback

    assert (keys(), keys("other")) == ([], [2])


@in_a_test_case
def test_in_a_test_case_it_is_the_same():
    with CaptureQueriesContext(connection) as queries, gather():
        tasks.note.enqueue(1)
        with transaction.atomic():
            tasks.note.enqueue(2)
        assert keys() == [2]
        tasks.note.enqueue(3)

    assert keys() == [1, 2, 3]
    assert len(inserts(queries.captured_queries)) == 2


# ---- threads and coroutines ------------------------------------------------------------


@pytest.mark.parametrize("copied", [True, False], ids=["with the context", "without"])
def test_jobs_of_another_thread_are_inserted_at_once(copied):
    with gather():
        tasks.note.enqueue(1)
        call = copy_context().run if copied else lambda function: function()
        in_another_thread(lambda: call(lambda: tasks.note.enqueue(2)))
        assert keys() == [2]

    assert keys() == [1, 2]


def test_in_a_coroutine_it_is_async_with():
    async def enqueue():
        async with gather() as block:
            one = await tasks.note.aenqueue(1)
            await asyncio.gather(*(tasks.note.aenqueue(number) for number in (2, 3)))
            assert not await Job.objects.aexists()
            await block.aflush()
            assert await Job.objects.acount() == 3
            await tasks.note.aenqueue_many([(4,)])
        return one.id

    job_id = async_to_sync(enqueue)()

    assert sorted(keys()) == [1, 2, 3, 4]
    assert Job.objects.filter(id=job_id).exists()
    assert is_clean()


def test_an_exception_in_a_coroutine_leaves_nothing():
    async def enqueue():
        async with gather():
            await tasks.note.aenqueue(1)
            raise Rollback

    with pytest.raises(Rollback):
        async_to_sync(enqueue)()

    assert keys() == []


def test_a_coroutine_that_goes_on_after_the_block_inserts_at_once():
    async def enqueue():
        ended = asyncio.Event()

        async def later():
            await ended.wait()
            await tasks.note.aenqueue(2)

        async with gather():
            await tasks.note.aenqueue(1)
            task = asyncio.create_task(later())
            await asyncio.sleep(0)
        ended.set()
        await task

    async_to_sync(enqueue)()

    assert keys() == [1, 2]


def test_with_is_refused_in_a_coroutine():
    async def enqueue():
        with gather():
            pass

    with pytest.raises(GatherMisplaced, match="async with"):
        async_to_sync(enqueue)()


def test_a_block_is_entered_once():
    block = gather()
    with block:
        pass

    with pytest.raises(GatherMisplaced, match="entered twice"), block:
        pass


def test_a_generator_that_ends_elsewhere_does_no_harm():
    def generator():
        with gather():
            tasks.note.enqueue(1)
            yield

    left = generator()
    context = copy_context()
    context.run(next, left)
    with gather():
        tasks.note.enqueue(2)
        left.close()
        tasks.note.enqueue(3)
        assert keys() == []

    assert keys() == [2, 3]
    assert is_clean()


def test_a_block_that_ends_in_another_thread_is_an_error():
    block = gather()
    context = copy_context()
    context.run(block.__enter__)
    context.run(tasks.note.enqueue, 1)

    with pytest.raises(GatherMisplaced, match="another thread"):
        in_another_thread(lambda: block.__exit__(None, None, None))

    assert keys() == []
    assert is_clean()


# ---- whose jobs they are ---------------------------------------------------------------


def test_a_unique_job_is_inserted_at_once_and_its_id_is_that_of_the_live_one():
    first = unique_tasks.whole.enqueue(1)
    with gather():
        tasks.note.enqueue("held")
        same = unique_tasks.whole.enqueue(1)
        new = unique_tasks.whole.enqueue(2)
        many = unique_tasks.whole.enqueue_many([(1,), (2,)])
        assert keys() == [1, 2]

    assert same.id == first.id
    assert many == [first.id, new.id]
    assert sorted(map(str, keys())) == ["1", "2", "held"]


def test_a_result_can_be_refreshed_inside_the_block():
    with gather():
        result = tasks.note.using(priority=4).enqueue(1, two=2)
        (of_many,) = tasks.note.enqueue_many([(3,)])
        result.refresh()
        found = tasks.note.get_result(of_many)
        again = tasks.note.get_result(result.id)
        with gather():
            assert tasks.note.get_result(result.id).id == result.id

    assert (result.state, result.is_finished) == ("ready", False)
    assert (found.args, found.kwargs) == ([3], {})
    assert (again.kwargs, again.task.priority) == ({"two": 2}, 4)


def test_waiting_for_a_job_of_the_block_is_refused():
    with gather():
        result = tasks.note.enqueue(1)
        with pytest.raises(NotInsertedYet, match=result.id):
            result.wait(timedelta(seconds=5))


def test_flush_inserts_what_was_enqueued_so_far():
    with transaction.atomic(), gather() as block:
        tasks.note.enqueue(1)
        block.flush()
        assert keys() == [1]
        tasks.note.enqueue(2)

    assert keys() == [1, 2]


def test_calls_of_schedule_are_gathered_and_deschedule_finds_them():
    with gather():
        schedule("tests.app.chores.scheduled", ["a"], meta={"why": "test"})
        schedule("tests.app.chores.scheduled", ["b"])
        assert not Job.objects.exists()
        assert deschedule("tests.app.chores.scheduled", ["a"]) == 1
        schedule("tests.app.chores.scheduled", ["c"])

    assert sorted(Job.objects.values_list("state", flat=True)) == ["cancelled", "ready", "ready"]


def test_task_enqueued_is_sent_when_the_job_is_inserted():
    sent = []

    def note(task_result, **_):
        sent.append((task_result.args, Job.objects.filter(id=task_result.id).exists()))

    tasks_signals.task_enqueued.connect(note)
    try:
        with gather():
            tasks.note.enqueue(1)
            tasks.note.enqueue_many([(2,), (3,)])
            assert sent == []
        with suppress(Rollback), gather():
            tasks.note.enqueue(4)
            raise Rollback
    finally:
        tasks_signals.task_enqueued.disconnect(note)

    assert sent == [([1], True), ([2], True), ([3], True)]


def test_each_thread_has_its_own_block():
    ready, done = threading.Event(), threading.Event()

    def other():
        with gather():
            tasks.note.enqueue(2)
            ready.set()
            assert done.wait(10)

    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(in_another_thread, other)
        assert ready.wait(10)
        with gather():
            tasks.note.enqueue(1)
        assert keys() == [1]
        done.set()
        future.result()

    assert sorted(keys()) == [1, 2]
