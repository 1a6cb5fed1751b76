"""Blocks of ``atomic()`` that a task has entered and not left."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

NOWHERE = "(of a task that has ended)"  # no alias


@contextmanager
def left_blocks(connection: Any) -> Iterator[list[Any]]:
    """Leave the blocks that are still open at the end of the block; they are in the list then.

    Otherwise the next exit of ``atomic()`` would take such a block for its own: the outermost
    one would release a savepoint instead of sending COMMIT.
    """
    blocks, savepoints = len(connection.atomic_blocks), len(connection.savepoint_ids)
    left: list[Any] = []
    try:
        yield left
    finally:
        left += connection.atomic_blocks[blocks:]
        del connection.savepoint_ids[savepoints:]
        del connection.atomic_blocks[blocks:]
        forget(left)


def forget(blocks: list[Any]) -> None:
    """Let the late exit of blocks raise instead of ending a transaction of another job.

    A generator in ``with atomic()`` that is kept somewhere leaves its block when it is freed:
    in any thread, and ``atomic()`` would roll back what that thread has open.
    """
    for block in blocks:
        block.using = NOWHERE
