"""Loaded by every process of a rig: notes which threads use which driver connection.

A worker imports it through ``OPTIONS['task_modules']``. It looks below Django, where
nothing can be bypassed: at what a driver sends. A connection keeps its name in a fork, and
in a pool from one ``getconn`` to the next.
"""

import itertools
import os
import threading
from collections import Counter, defaultdict
from typing import Any

from django.db import connection, connections
from django.db.backends.signals import connection_created

from tests.app.notes import note

SOME = 25  # uses, between two notes of their number
OF_THE_POOL = ("-worker-", "-scheduler")  # in the names of psycopg_pool's own threads

_connections = itertools.count(1)
_threads = itertools.count(1)
_here = threading.local()  # a thread's identity may be given again, its number is not
_known: set[tuple[str, int, int]] = set()
_uses: Counter[int] = Counter()


def fresh_name(born: int | None = None) -> str:
    """Return a name for a connection: the process that opened it, and a number."""
    return f"{born or os.getpid()}-{next(_connections)}"


def used(name: str) -> None:
    """Note a use of a connection, once for each thread of each process."""
    if not hasattr(_here, "number"):
        _here.number = next(_threads)
    pid = os.getpid()
    _uses[pid] += 1
    if _uses[pid] % SOME == 0:
        note("uses", number=_uses[pid])
    if (name, pid, _here.number) not in _known:
        _known.add((name, pid, _here.number))
        thread = threading.current_thread().name
        note("used", connection=name, thread=_here.number, name=thread)


def watch_postgresql() -> None:
    """Look at every wait for the server."""
    import psycopg  # noqa: PLC0415

    wait = psycopg.Connection.wait

    def watched(raw: Any, *args: Any, **kwargs: Any) -> Any:
        born = raw.__dict__.setdefault("born", os.getpid())
        if not any(part in threading.current_thread().name for part in OF_THE_POOL):
            used(raw.__dict__.setdefault("in_custody", fresh_name(born)))
        return wait(raw, *args, **kwargs)

    psycopg.Connection.wait = watched
    watch_pool()


def watch_pool() -> None:
    """Take a pooled connection for another one each time that it is handed out."""
    try:
        from psycopg_pool import ConnectionPool  # noqa: PLC0415
    except ImportError:
        return
    get, put = ConnectionPool.getconn, ConnectionPool.putconn

    def getconn(pool: Any, *args: Any, **kwargs: Any) -> Any:
        raw = get(pool, *args, **kwargs)
        raw.in_custody = fresh_name(raw.born)
        note("from_pool", connection=raw.in_custody)
        return raw

    def putconn(pool: Any, raw: Any) -> None:
        raw.__dict__.pop("in_custody", None)
        put(pool, raw)

    ConnectionPool.getconn, ConnectionPool.putconn = getconn, putconn


def watch_mysql() -> None:
    """Look at every packet on its way to the server."""
    from pymysql.connections import Connection  # noqa: PLC0415

    write = Connection._write_bytes

    def watched(raw: Any, data: bytes) -> None:
        used(raw.__dict__.setdefault("in_custody", fresh_name()))
        write(raw, data)

    Connection._write_bytes = watched


def watch_sqlite() -> None:
    """Let SQLite itself call back with each statement, in the thread that runs it."""

    def trace(connection: Any, **_: Any) -> None:
        name = fresh_name()
        connection.connection.set_trace_callback(lambda _sql: used(name))

    connection_created.connect(trace, weak=False, dispatch_uid="custody")
    for one in connections.all(initialized_only=True):
        if one.connection is not None:
            trace(one)


WATCH = {"postgresql": watch_postgresql, "mysql": watch_mysql, "sqlite": watch_sqlite}


class Custody:
    """What the notes of a rig say about connections; for the test that reads them."""

    def __init__(self, notes: list[dict[str, Any]]) -> None:
        self.users: dict[str, set[tuple[int, int]]] = defaultdict(set)
        uses: Counter[int] = Counter()
        for one in notes:
            if one["what"] == "used":
                self.users[one["connection"]].add((one["pid"], one["thread"]))
            elif one["what"] == "uses":
                uses[one["pid"]] = max(uses[one["pid"]], one["number"])
        self.uses = uses.total()
        self.threads = len(set().union(*self.users.values()))
        self.processes = {pid for users in self.users.values() for pid, _thread in users}
        self.shared = [name for name, users in self.users.items() if _is_shared(name, users)]

    def __str__(self) -> str:
        """Return the counters."""
        return (
            f"{self.uses} uses of {len(self.users)} connections by {self.threads} threads of "
            f"{len(self.processes)} processes, {len(self.shared)} shared"
        )


def _is_shared(name: str, users: set[tuple[int, int]]) -> bool:
    born, _, _number = name.partition("-")
    return len(users) > 1 or any(pid != int(born) for pid, _thread in users)


if os.environ.get("AFTERCOMMIT_TEST_CUSTODY"):  # not in the process of the tests
    WATCH[connection.vendor]()
