"""A process that enqueues in transactions, and may be killed in any of them.

Arguments: a name for its batches, how many batches, how many jobs in each, and the
longest job in seconds. Every third batch ends with a rollback. A batch leaves one
``Effect`` of its own, so that all or nothing of it can be told from the tables alone.
"""

import random
import sys
from threading import Event

import django

FLAVOURS = 3
BETWEEN_BATCHES = 0.05  # seconds


def main() -> None:
    """Enqueue, and note what was certainly committed or certainly rolled back."""
    django.setup()
    from tests.process import badge  # noqa: F401, PLC0415 - its connections say who they are

    name, batches, size, longest = sys.argv[1:]
    pause = Event()
    for number in range(int(batches)):
        enqueue_batch(f"{name}.{number}", int(size), float(longest))
        pause.wait(BETWEEN_BATCHES)


def enqueue_batch(batch: str, size: int, longest: float) -> None:
    """Enqueue ``size`` jobs of all kinds in one transaction."""
    from django.db import transaction  # noqa: PLC0415

    from tests.app.chores import KINDS, work  # noqa: PLC0415
    from tests.app.models import Effect  # noqa: PLC0415
    from tests.app.notes import note  # noqa: PLC0415

    source = random.Random(batch)
    keep = source.randrange(FLAVOURS) > 0
    with transaction.atomic():
        Effect.objects.create(key=batch)
        for number in range(size):
            task = KINDS[number % len(KINDS)]
            task.enqueue(f"{batch}:{number}", lasting=source.choice([0, 0, longest / 5, longest]))
        work(source.choice([0, 0.01]), gate="")
        if not keep:
            transaction.set_rollback(True)
    note("batch", batch=batch, size=size, kept=keep)


if __name__ == "__main__":
    main()
