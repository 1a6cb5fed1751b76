"""A web process: makes the same request several times, and may die in it.

python -m scoreboard.web LIBRARY WAY SCENARIO: prints a JSON object.
"""

import json
import os
import signal
import sys
import time
from typing import Any

from scoreboard.site import ACT, AGAIN, NEW, NOTES, OLD, WAYS, Send, notes  # isort: skip # sets Django up
from django.db import connections, transaction

from tests.app.models import Effect

TIMES = 5
PATIENCE = 10.0
HELD = 0.6  # seconds that a transaction stays open for the worker to see


def main() -> None:
    """Make the requests."""
    library, way, scenario = sys.argv[1:]
    send = WAYS[way][library]
    request = SCENARIOS[scenario]
    requests = [request(send, f"{library} {way} {scenario}") for _time in range(TIMES)]
    print(json.dumps(requests))


def created(send: Send, tag: str) -> dict[str, Any]:
    """Create a row, send its id, stay in the transaction for a while."""
    with transaction.atomic():
        row = Effect.objects.create(key=NEW)
        returned = send(tag, row.pk)
        _hold(row.pk)
    return {"pk": row.pk, "id": returned is not None}


def edited(send: Send, tag: str) -> dict[str, Any]:
    """Edit a row, send its id, stay in the transaction for a while."""
    row = Effect.objects.create(key=OLD)
    with transaction.atomic():
        Effect.objects.filter(pk=row.pk).update(key=NEW)
        send(tag, row.pk)
        _hold(row.pk)
    return {"pk": row.pk}


def rolled_back(send: Send, tag: str) -> dict[str, Any]:
    """Create a row, send its id, and fail."""
    with transaction.atomic():
        row = Effect.objects.create(key=NEW)
        send(tag, row.pk)
        transaction.set_rollback(True)
    return {"pk": row.pk}


def killed(send: Send, tag: str) -> dict[str, Any]:
    """Do as ``created`` in a process that is killed right after its COMMIT."""
    connections.close_all()
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        with transaction.atomic():
            transaction.on_commit(lambda: os.kill(os.getpid(), signal.SIGKILL))
            row = Effect.objects.create(key=NEW)
            send(tag, row.pk)
            os.write(theirs, str(row.pk).encode())
    os.waitpid(child, 0)
    return {"pk": int(os.read(ours, 100))}


def broker_away(send: Send, tag: str) -> dict[str, Any]:
    """Do as ``created`` while nobody answers at the broker's address."""
    pk = None
    try:
        with transaction.atomic():
            row = Effect.objects.create(key=NEW)
            pk = row.pk
            send(tag, row.pk)
    except Exception as error:
        return {"pk": pk, "failed": type(error).__name__, "committed": _is_there(pk)}
    return {"pk": pk, "committed": True}


def delivered_twice(_send: Send, tag: str) -> dict[str, Any]:
    """Create a row, send its id, and have the broker deliver the same message once more."""
    library = tag.split(maxsplit=1)[0]
    with transaction.atomic():
        row = Effect.objects.create(key=NEW)
        sent = ACT[library](tag, row.pk)
    _hold(row.pk, seconds=PATIENCE)
    AGAIN[library](sent, tag, row.pk)
    return {"pk": row.pk}


def _is_there(pk: int | None) -> bool:
    return Effect.objects.filter(pk=pk).exists()


def _hold(pk: int, *, seconds: float = HELD) -> None:
    """Wait until the worker has looked, as fast as it is; not for long."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if any(json.loads(one)[1] == pk for one in notes.lrange(NOTES, 0, -1)):
            return
        time.sleep(0.02)


SCENARIOS = {
    "created": created,
    "edited": edited,
    "rolled back": rolled_back,
    "killed": killed,
    "broker away": broker_away,
    "delivered twice": delivered_twice,
}

if __name__ == "__main__":
    main()
