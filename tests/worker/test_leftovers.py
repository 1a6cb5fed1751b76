"""What is left of a run strikes no other: cursors, generators, blocks, finalizers, wrappers."""

import asyncio
import gc
import threading
from importlib import import_module

import pytest
from django.db import connection, transaction

from aftercommit.errors import RolledBack
from aftercommit.models import State
from tests.app.models import Effect
from tests.worker.rig import call, commits, effects, leave, sql

pytestmark = commits

ROWS = 250  # more than an iterator reads at once
OWN = {call.__code__.co_filename, __file__}  # of the task and what it calls
each_way = pytest.mark.parametrize("atomic", [False, True], ids=["plain", "atomic"])
in_both = pytest.mark.usefixtures("alone_and_in_company")
kept = []


@pytest.fixture(autouse=True)
def _rows():
    kept.clear()
    Effect.objects.bulk_create(Effect(key="row") for _ in range(ROWS))


def rows():
    """Begin to read, as a task does."""
    found = Effect.objects.filter(key="row").iterator(chunk_size=100)
    next(found)
    return found


def in_another_thread(function):
    """Call it where another job would run."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()


def is_unharmed(rig, strike, **options):
    """Run an atomic job during which another thread frees what is left."""

    def innocent(context):
        leave("first")
        in_another_thread(strike)
        with transaction.atomic():
            leave("second")

    job = rig.run(innocent, atomic=True, max_attempts=1, **options)
    assert job.error_list == []
    return job.state == State.SUCCEEDED and (effects("first"), effects("second")) == (1, 1)


def locals_kept(error, seen=()):
    """Return what the frames of an exception and of all it names still hold."""
    found = {}
    if error is None or error in seen:
        return found
    step = error.__traceback__
    while step is not None:
        if step.tb_frame.f_code.co_filename in OWN:
            found |= step.tb_frame.f_locals
        step = step.tb_next
    for one in (error.__cause__, error.__context__, *getattr(error, "exceptions", ())):
        found |= locals_kept(one, (*seen, error))
    return found


# ---- what an exception keeps alive --------------------------------------------------------


def raise_plainly(context):
    """Raise in the loop over a cursor."""
    for _row in rows():
        raise ValueError("in the loop")


def raise_from(context):
    """Raise another one from it."""
    try:
        raise_plainly(context)
    except ValueError as error:
        raise KeyError("from") from error


def raise_in_except(context):
    """Raise another one while it is dealt with."""
    try:
        raise_plainly(context)
    except ValueError:
        found = rows()
        raise KeyError("in except") from None if found is None else KeyError("none")


def raise_a_group(context):
    """Raise several, nested."""
    errors = []
    for function in (raise_plainly, raise_from):
        try:
            function(context)
        except Exception as error:
            errors.append(error)
    raise ExceptionGroup("outer", [ExceptionGroup("inner", errors), ValueError("more")])


def raise_in_a_block(context):
    """Raise inside a block of a generator that has not ended."""
    block = in_a_block()
    next(block)
    raise ValueError("beside a block")


def in_a_block():
    """Hold a block open."""
    with transaction.atomic():
        leave("in the block")
        yield


def return_a_generator(context):
    """Return what cannot be stored, and is alive."""
    return rows()


RAISE = [
    raise_plainly,
    raise_from,
    raise_in_except,
    raise_a_group,
    raise_in_a_block,
    return_a_generator,
]


@each_way
@pytest.mark.parametrize("body", RAISE, ids=lambda function: function.__name__)
@in_both
def test_an_exception_that_is_freed_elsewhere_strikes_nobody(rig, body, atomic):
    claim = rig.claim(rig.enqueue(body, atomic=atomic, max_attempts=1))
    result = rig.execute(claim)
    exceptions = [result.exception]
    rig.finish(claim, result)
    rig.written.clear()
    del result

    assert locals_kept(exceptions[0]) == {}
    assert rig.job(claim.job_id).state == State.FAILED
    assert effects("in the block") == 0
    assert is_unharmed(rig, exceptions.clear)


@in_both
def test_the_traceback_that_is_recorded_is_whole(rig):
    job = rig.run(raise_from, atomic=True, max_attempts=1)

    text = job.error_list[0]["traceback"]
    assert "in raise_plainly\n    raise ValueError" in text
    assert "in raise_from\n    raise KeyError" in text


def test_a_finalizer_uses_the_connection_before_the_run_is_over(rig):
    threads = []

    class Writes:
        def __del__(self):
            threads.append(threading.get_ident())
            sql("SELECT 1")

    def body(context):
        writes = Writes()
        raise ValueError(str(writes)[:0])

    claim = rig.claim(rig.enqueue(body, atomic=True, max_attempts=1))
    result = rig.execute(claim)

    assert threads == [threading.get_ident()]
    assert result.exception is not None


# The event loop may end the generator of rows after its connection: SQLite says so, and no more.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_an_async_task_leaves_is_freed_before_it_is_over(rig):
    freed = []

    class Noticed:
        def __del__(self):
            freed.append(threading.get_ident())

    async def body(context):
        noticed = Noticed()
        async for _row in Effect.objects.filter(key="row").aiterator(chunk_size=100):
            raise ValueError(str(noticed)[:0])

    claim = rig.claim(rig.enqueue(body, max_attempts=1))
    result = rig.execute(claim)

    assert len(freed) == 1
    assert locals_kept(result.exception) == {}
    assert is_unharmed(rig, lambda: None)
    gc.collect()  # what is said late belongs to this test


# ---- what something else keeps alive ------------------------------------------------------


def keep_a_cursor(context):
    """Leave a half-read cursor in a global."""
    kept.append(rows())


def keep_a_cursor_and_raise(context):
    """Do so, and fail."""
    keep_a_cursor(context)
    raise ValueError("kept")


@each_way
@pytest.mark.parametrize("body", [keep_a_cursor, keep_a_cursor_and_raise])
@in_both
def test_a_cursor_that_is_kept_strikes_nobody(rig, body, atomic):
    rig.run(body, atomic=atomic, max_attempts=1)
    assert len(kept) >= 1

    assert is_unharmed(rig, kept.clear)


@in_both
@pytest.mark.parametrize("fails", [False, True])
def test_a_block_that_is_kept_open_rolls_back_its_run_and_no_other(rig, fails, recwarn):
    def body(context):
        leave("before")
        block = in_a_block()
        next(block)
        kept.append(block)
        if fails:
            raise ValueError("as well")

    job = rig.run(body, atomic=True, max_attempts=1)

    assert job.state == State.FAILED
    expected = ValueError if fails else RolledBack
    assert job.error_list[0]["exception_class_path"].endswith(expected.__name__)
    assert (effects("before"), effects("in the block")) == (0, 0)
    assert len(kept) >= 1
    assert is_unharmed(rig, lambda: close_all(kept))
    assert is_unharmed_in_this_thread(rig)


def close_all(generators):
    """End generators; what they raise is not our subject."""
    while generators:
        try:
            generators.pop().close()
        except Exception as error:
            assert "of a task that has ended" in str(error)


def is_unharmed_in_this_thread(rig):
    """Run an atomic job in which a block that another has left is ended."""
    leaves = in_a_block()

    def open_one(context):
        next(leaves)

    rig.run(open_one, max_attempts=1)

    def innocent(context):
        leave("third")
        close_all([leaves])
        leave("third")

    return rig.run(innocent, atomic=True).state == State.SUCCEEDED and effects("third") == 2


@in_both
def test_a_wrapper_that_is_left_late_takes_away_none_of_ours(rig):
    seen = []

    def note(execute, *given):
        seen.append(given[0])
        return execute(*given)

    def body(context):
        wrapper = connection.execute_wrapper(note)
        wrapper.__enter__()
        kept.append(wrapper)

    def struck(context):
        while kept:
            kept.pop().__exit__(None, None, None)
        leave("struck")

    before = list(connection.execute_wrappers)
    rig.run(body, atomic=True)
    assert len(kept) >= 1
    rig.run(struck, atomic=True, max_attempts=1)
    sql("SELECT 2")

    rig.run(lambda context: None)
    assert set(before) <= set(connection.execute_wrappers)
    names = [
        getattr(one, "__qualname__", type(one).__name__) for one in connection.execute_wrappers
    ]
    assert set(names) <= {"ThreadConnections._watch", note.__qualname__}


@pytest.mark.skipif(connection.vendor != "mysql", reason="an SSCursor is the driver's")
def test_rows_that_are_not_read_do_not_meet_the_next(rig):
    def body(context):
        connection.ensure_connection()
        cursor = connection.connection.cursor(import_module("pymysql.cursors").SSCursor)
        cursor.execute("SELECT 1 UNION SELECT 2")
        cursor.fetchone()
        kept.extend([cursor, connection.connection])

    claim = rig.claim(rig.enqueue(body, max_attempts=1))
    rig.finish(claim, rig.execute(claim))

    assert connection.connection is not kept[1]
    assert is_unharmed(rig, kept.clear)


def test_threads_that_outlive_their_task_have_connections_of_their_own(rig):
    may_go_on = threading.Event()
    used = []

    def use(key):
        leave(key)
        used.append(connection.connection)

    def go_on():
        assert may_go_on.wait(10)
        use("late")
        connection.close()

    def body(context):
        use("early")
        kept.append(threading.Thread(target=go_on))
        kept[0].start()

    def innocent(context):
        leave("innocent")
        may_go_on.set()
        if connection.vendor != "sqlite":  # there it waits for the end of this transaction
            kept[0].join()

    rig.run(body)
    assert rig.run(innocent, atomic=True).state == State.SUCCEEDED
    kept[0].join()

    assert len({id(one) for one in used}) == 2
    assert (effects("early"), effects("late"), effects("innocent")) == (1, 1, 1)


def test_coroutines_that_outlive_their_task_use_no_connection_of_another(rig):
    loops = []

    async def late():
        await asyncio.sleep(0)
        await Effect.objects.acreate(key="late")

    async def body(context):
        loops.append(asyncio.ensure_future(late()))
        await Effect.objects.acreate(key="early")

    rig.run(body)

    assert len(loops) == 1
    assert effects("early") == 1
    assert is_unharmed(rig, loops.clear)
