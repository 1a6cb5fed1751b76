"""A process that enqueues transfers, and goes on when its connection is cut.

Arguments: a name for its batches, how many of them, how many jobs in each, and the accounts.
A batch leaves one ``Effect`` of its own, and is followed by a single job in autocommit.
"""

import random
import sys
from collections.abc import Callable
from threading import Event

import django

LASTING = (0, 0.01, 0.02)  # seconds between the first lock and the second
IN_TRANSACTION = 0.2  # seconds, for whoever wants to cut it


def main() -> None:
    """Enqueue, and note what is certain."""
    django.setup()
    from tests.app.notes import note  # noqa: PLC0415
    from tests.process import badge  # noqa: F401, PLC0415 - its connections say who they are

    name, batches, size, *given = sys.argv[1:]
    source = random.Random(name)
    accounts = [int(account) for account in given]
    for number in range(int(batches)):
        pairs = [source.sample(accounts, 2) for _one in range(int(size) + 1)]
        pay(f"{name}.{number}", pairs, lasting=source.choice(LASTING))
    note("enqueued", name=name)


def pay(batch: str, pairs: list[list[int]], *, lasting: float) -> None:
    """Enqueue all pairs but the last in one transaction, and the last without one."""
    from django.db import transaction  # noqa: PLC0415

    from tests.app.models import Effect  # noqa: PLC0415
    from tests.process.transfers import transfer  # noqa: PLC0415

    def together() -> None:
        with transaction.atomic():
            Effect.objects.create(key=batch)
            for number, pair in enumerate(pairs[:-1]):
                transfer.enqueue(f"{batch}:{number}", *pair, lasting=lasting)
            Event().wait(IN_TRANSACTION)

    attempt("batch", batch, together)
    attempt("single", batch, lambda: transfer.enqueue(f"single:{batch}", *pairs[-1]))


def attempt(what: str, batch: str, call: Callable[[], object]) -> None:
    """Do it; note whether it is certain or nobody knows."""
    from django.db import Error, connection  # noqa: PLC0415

    from tests.app.notes import note  # noqa: PLC0415

    try:
        call()
    except Error as error:
        note(f"{what}_in_doubt", batch=batch, error=repr(error))
        connection.close()
    else:
        note(what, batch=batch)


if __name__ == "__main__":
    main()
