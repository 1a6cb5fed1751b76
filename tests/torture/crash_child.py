"""Runs jobs, each in a process of its own that comes to harm at one chosen point.

A process that has loaded the project and closed its connections forks a child for each
order on its standard input; the child claims one job, runs it and records how it ended,
as a worker does, in one thread. A point is a statement, a COMMIT or a ROLLBACK; harm
comes before it reaches the database, or after it was carried out and before anybody here
hears of it.
"""
# ruff: noqa: E402 - the project is loaded before what needs it

import contextlib
import json
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from uuid import UUID

import django

django.setup()

from django.db import Error, connections
from django.db.backends.utils import CursorWrapper

import tests.app.chores
import tests.process.badge  # every change of a job says who made it
import tests.torture.tasks  # noqa: F401 - as a worker finds them
from aftercommit.values import ClaimQuery
from tests.torture.mutants import apply_wanted_mutant
from tests.torture.orders import DIED, Answer, Order
from tests.worker.rig import Rig

SHORT = timedelta(milliseconds=300)  # the lease of those that will not come back
TRIES = 5
A_MOMENT = 0.05  # seconds

Say = Callable[..., None]


class Harm:
    """Counts the points, and strikes at one of them."""

    def __init__(self, order: Order, say: Say) -> None:
        self._order = order
        self._say = say
        self._count = 0

    def at(self, name: str, owner: Any, call: Callable[[], Any]) -> Any:
        """Carry out ``call``, a point, unless harm comes first."""
        here = self._count == self._order.point
        self._count += 1
        self._say(point=name)
        if here and self._order.when == "before":
            self._strike(name, owner)
        result = call()
        if here and self._order.when == "after":
            self._strike(name, owner)
        return result

    def _strike(self, name: str, owner: Any) -> None:
        self._say(harm=name)
        if self._order.how == "exit":
            os._exit(DIED)
        wrapper = owner
        if isinstance(owner, CursorWrapper):
            wrapper = owner.db
            owner.cursor.close()  # SQLite would keep its lock until the last row is read
        cut(wrapper.connection)
        with wrapper.wrap_database_errors:  # as the driver says it
            wrapper.connection.cursor().execute("SELECT 1")


def cut(raw: Any) -> None:
    """Close a driver's connection under it, as the network does; SQLite's own has none."""
    line = raw if hasattr(raw, "fileno") else getattr(raw, "_sock", None)
    if line is None:
        raw.close()
        return
    with socket.socket(fileno=os.dup(line.fileno())) as copy:
        copy.shutdown(socket.SHUT_RDWR)


def set_traps(harm: Harm) -> None:
    """Let everything that goes to a database pass by ``harm``."""

    def trap(cls: type, method: str, name: Callable[..., str]) -> None:
        original = getattr(cls, method)

        def trapped(self: Any, *args: Any) -> Any:
            return harm.at(name(*args), self, lambda: original(self, *args))

        setattr(cls, method, trapped)

    wrapper_class = type(connections["default"])
    for method in ("_execute", "_executemany"):
        trap(CursorWrapper, method, lambda sql, *_: " ".join(sql.split())[:70])
    trap(wrapper_class, "_commit", lambda: "COMMIT")
    trap(wrapper_class, "_rollback", lambda: "ROLLBACK")
    if wrapper_class.vendor == "mysql":  # elsewhere nothing is sent
        trap(wrapper_class, "_set_autocommit", lambda on: f"AUTOCOMMIT {on}")


def claim(rig: Rig, order: Order) -> None:
    """Claim the job as the fetcher's loop does: again, if the database was away.

    And once more if then there is none: the server may not have noticed yet that it has to
    roll back, and a claim passes over a row that is locked.
    """
    pause, was_away = threading.Event(), False
    for _try in range(TRIES):
        with contextlib.suppress(Error):
            claims = rig.store.claim(
                ClaimQuery(
                    queue=order.queue,
                    limit=1,
                    worker_id=rig.worker_id,
                    lease=SHORT,
                    only=[UUID(order.job)],
                )
            )
            rig.claims += claims
            if claims or not was_away:
                return
            pause.wait(A_MOMENT)
            continue
        was_away = True
        connections.close_all()


def run(order: Order, say: Say) -> None:
    """Be the child: the road of one job."""
    connections["default"].ensure_connection()  # to connect is no part of the road
    set_traps(Harm(order, say))
    rig = Rig()
    claim(rig, order)
    for one in rig.claims:  # none if an answer was lost: its lease will end
        rig.put(one, rig.execute(one))
        rig.finish_whatever_happens(TRIES)
    for _claim, ran in rig.written:
        say(told=type(ran.outcome).__name__)
    say(lost=len(rig.lost))


def serve(order: Any, run: Callable[[Any, Say], None] = run) -> Answer:
    """Fork a child that does ``run`` for an order; return what it said before its end."""
    reader, writer = os.pipe()

    def say(**word: object) -> None:
        os.write(writer, json.dumps(word).encode() + b"\n")

    child = os.fork()
    if not child:
        status = 1
        try:
            run(order, say)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    os.close(writer)
    answer = Answer()
    with open(reader) as words:
        for word in map(json.loads, words):
            if "point" in word:
                answer.points.append(word["point"])
            answer.harm = word.get("harm", answer.harm)
            answer.told += [word["told"]] if "told" in word else []
            answer.lost += word.get("lost", 0)
    answer.status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return answer


def main() -> None:
    """Serve orders until there are no more."""
    apply_wanted_mutant()
    connections.close_all()  # no child may share one
    for line in sys.stdin:
        print(json.dumps(asdict(serve(Order(**json.loads(line))))), flush=True)


if __name__ == "__main__":
    main()
