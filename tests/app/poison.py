"""Tasks that do all they can to take a worker down with them."""

import asyncio
import ctypes
import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, NoReturn

from django.db import connection, transaction

from aftercommit import Cancel, task
from tests.app.models import Effect
from tests.app.notes import note

SOON = timedelta(milliseconds=20)
IN_TIME = timedelta(seconds=0.5)
LONG = 60  # seconds: longer than any test waits
LARGE = 50 * 2**20
LARGER = 100 * 2**20
NASTY = "a\0b\ud800c\x1b[31m%s{0}\n\r'\";--"

Poison = Callable[[], Any]
poisons: dict[str, Poison] = {}
SESSION = {
    "postgresql": {
        "wait": "SET statement_timeout = 1",
        "read_only": "SET default_transaction_read_only = on",
        "isolation": "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "schema": "SELECT set_config('search_path', 'nowhere', false)",
    },
    "mysql": {
        "wait": "SET SESSION max_statement_time = 0.001",
        "read_only": "SET SESSION TRANSACTION READ ONLY",
        "isolation": "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "schema": "USE information_schema",
    },
    "sqlite": {
        "wait": "PRAGMA busy_timeout = 1",
        "read_only": "PRAGMA query_only = ON",
        "isolation": "PRAGMA read_uncommitted = ON",
        "schema": "ATTACH ':memory:' AS elsewhere",
    },
}
KILL_BACKEND = {
    "postgresql": "SELECT pg_terminate_backend(pg_backend_pid())",
    "mysql": "KILL CONNECTION_ID()",
}


class Mute(Exception):
    """Cannot be printed."""

    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


class Rooted(Exception):
    """Cannot be pickled, copied or compared."""

    def __init__(self) -> None:
        super().__init__(threading.Lock())

    def __reduce__(self) -> NoReturn:
        raise TypeError("it stays here")

    def __eq__(self, other: object) -> NoReturn:
        raise TypeError("it is like nothing else")

    __hash__ = None


class Misnamed(Exception):
    """Its name fits no column."""


Misnamed.__qualname__ = NASTY * 100


def poison(function: Poison) -> Poison:
    """Let a task be told by name to do this."""
    poisons[function.__name__] = function
    return function


def named(key: str) -> Poison:
    """Return what a key asks for: ``name of the poison @ name of the task``."""
    return poisons[key.partition(" @ ")[0]]


@task(max_attempts=2, backoff=SOON)
def swallow(key: str, *_arguments: Any) -> Any:
    """Do the worst, in a plain task."""
    note("swallow", key=key)
    return named(key)()


@task(max_attempts=2, backoff=SOON, atomic=True)
def swallow_atomic(key: str) -> Any:
    """Do the worst inside the transaction of the completion."""
    return named(key)()


@task(max_attempts=1, timeout=IN_TIME)
def swallow_in_time(key: str) -> Any:
    """Do the worst, for longer than allowed."""
    return named(key)()


@task(max_attempts=1, timeout=IN_TIME)
async def swallow_awaited(key: str) -> Any:
    """Do the worst on the event loop."""
    return await named(key)()


# ---- what is returned and raised -------------------------------------------------------


@poison
def nothing() -> None:
    """Be harmless: the arguments are the poison."""


@poison
def nasty_result() -> list[str]:
    """Return what is hard to store."""
    return [NASTY]


@poison
def nan_result() -> float:
    """Return a number that JSON does not know."""
    return float("nan")


@poison
def object_result() -> object:
    """Return what cannot be stored."""
    return object()


@poison
def cyclic_result() -> list[Any]:
    """Return a list that holds itself."""
    result: list[Any] = []
    result.append(result)
    return result


@poison
def large_result() -> str:
    """Return too much."""
    return "x" * LARGER


@poison
def nasty_error() -> NoReturn:
    """Raise what is hard to store and to log."""
    raise ValueError(NASTY)


@poison
def nasty_cancel() -> NoReturn:
    """End with a reason that is hard to store."""
    raise Cancel(NASTY)


@poison
def mute_error() -> NoReturn:
    """Raise what cannot be printed."""
    raise Mute


@poison
def misnamed_error() -> NoReturn:
    """Raise what cannot be named."""
    raise Misnamed


@poison
def large_error() -> NoReturn:
    """Raise too much."""
    raise ValueError("x" * LARGE)


@poison
def rooted_error() -> NoReturn:
    """Raise what no pipe carries."""
    raise Rooted


@poison
def cyclic_error() -> NoReturn:
    """Raise what is its own cause."""
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    first.__context__, second.__context__ = second, first
    raise first


@poison
def many_errors() -> NoReturn:
    """Raise a tree of exceptions, one of which cannot be printed."""
    inner = BaseExceptionGroup("inner", [KeyboardInterrupt(), Mute()])
    raise BaseExceptionGroup("outer", [ValueError(NASTY), inner])


@poison
def misbuilt_error() -> NoReturn:
    """Raise an error whose attributes are not what those who print it expect."""
    error = SyntaxError("text")
    error.lineno, error.text, error.offset, error.filename = "one", 2, [], object()
    raise error


@poison
def endless_recursion() -> Any:
    """Use up the stack."""
    return endless_recursion()


@poison
def no_memory() -> NoReturn:
    """Raise what the interpreter raises when there is no more."""
    raise MemoryError


@poison
def exit_quietly() -> NoReturn:
    """Leave, as a script does."""
    sys.exit(0)


@poison
def interrupt() -> NoReturn:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt


@poison
def stop_generator() -> NoReturn:
    """Raise what ends a generator."""
    raise GeneratorExit


@poison
def stop_iteration() -> NoReturn:
    """Raise what ends a loop."""
    raise StopIteration


# ---- the process and its threads -------------------------------------------------------


@poison
def exit_at_once() -> NoReturn:
    """Leave without a word."""
    os._exit(3)


@poison
def exit_as_if_all_was_well() -> NoReturn:
    """Leave with the status of a good end."""
    os._exit(0)


@poison
def segfault() -> None:
    """Read where nothing is."""
    ctypes.string_at(0)


@poison
def kill_process() -> None:
    """Do what the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


@poison
def stop_process() -> None:
    """Ask the worker process to end."""
    os.kill(os.getpid(), signal.SIGTERM)


@poison
def fork() -> int:
    """Go on twice."""
    Effect.objects.create(key="fork")
    child = os.fork()
    if child:
        os.waitpid(child, 0)
    return 0


@poison
def raise_in_thread() -> None:
    """Raise where nobody catches it."""
    _in_thread(nasty_error)


@poison
def exit_in_thread() -> None:
    """Leave where it ends nothing but a thread."""
    _in_thread(exit_quietly)


@poison
def loop_for_ever() -> None:
    """Never end."""
    while True:
        pass


@poison
def ignore_everything() -> None:
    """Never end, whatever is raised here."""
    while True:
        with suppress(BaseException):
            loop_for_ever()


@poison
def sleep_in_c() -> None:
    """Wait where no exception reaches."""
    select.select([], [], [], LONG)


@poison
async def sleep_in_c_awaited() -> None:
    """Wait where no other coroutine gets its turn."""
    select.select([], [], [], LONG)


@poison
async def exit_awaited() -> None:
    """Leave from a coroutine."""
    await asyncio.sleep(0)
    sys.exit(0)


# ---- the connection --------------------------------------------------------------------


@poison
def close_connection() -> None:
    """Close it in good order."""
    connection.close()


@poison
def cut_connection() -> None:
    """Close it behind Django's back."""
    connection.ensure_connection()
    connection.connection.close()


@poison
def cut_connection_and_go_on() -> None:
    """Close it behind Django's back, and use it."""
    cut_connection()
    Effect.objects.create(key="cut")


@poison
def kill_backend() -> None:
    """End the server's side of it."""
    _sql(KILL_BACKEND[connection.vendor])


@poison
def leave_atomic_open() -> None:
    """Enter a transaction and forget it."""
    transaction.atomic().__enter__()
    Effect.objects.create(key="left open")


@poison
def leave_atomic_closed() -> None:
    """Close the connection inside a transaction, and forget that."""
    leave_atomic_open()
    connection.close()


@poison
def leave_autocommit_off() -> None:
    """Begin what nobody commits."""
    connection.set_autocommit(False)
    Effect.objects.create(key="left open")


@poison
def leave_raw_begin_open() -> None:
    """Begin a transaction that Django does not know of."""
    _sql("BEGIN")
    Effect.objects.create(key="left open")


@poison
def set_wait() -> None:
    """Allow later statements no time."""
    _set("wait")


@poison
def set_read_only() -> None:
    """Allow later tasks no writes."""
    _set("read_only")


@poison
def set_isolation() -> None:
    """Give later tasks another isolation."""
    _set("isolation")


@poison
def set_schema() -> None:
    """Give later tasks other tables."""
    _set("schema")


@poison
def forbid_own_completion() -> None:
    """Let the transaction of the completion write nothing more."""
    _sql("SET TRANSACTION READ ONLY")


def _set(what: str) -> None:
    _sql(SESSION[connection.vendor][what])


def _sql(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def _in_thread(target: Callable[[], None]) -> None:
    thread = threading.Thread(target=target)
    thread.start()
    thread.join()
