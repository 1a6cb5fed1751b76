"""What the children that a task forks do not share with their worker.

A child that outlives its worker would hold the worker's session lock, so that nobody notices
its death, and the channel to its parent. Its statements would be sent on the connections of
the worker's threads.
"""

import os
from typing import Any
from weakref import WeakSet

from django.db.backends.signals import connection_created

from aftercommit.process import forks

_files: "WeakSet[Any]" = WeakSet()  # of whatever has a fileno()
_wrappers: "WeakSet[Any]" = WeakSet()  # connections of Django
_parents: list[Any] = []  # in a child: connections of its parent, which it must not close


def keep_to_worker(file: Any) -> None:
    """Close a file in the children that a task forks."""
    _files.add(file)


def keep_connections_to_worker() -> None:
    """Do the same with each connection to a database that is opened from now on."""
    connection_created.connect(_note, dispatch_uid="aftercommit.forked")
    if _leave not in forks.in_child:
        forks.in_child.append(_leave)


def _note(connection: Any, **_: Any) -> None:
    _wrappers.add(connection)


def _leave() -> None:
    """Close descriptors without a word to the server; let Django connect anew.

    Each number stays in use, by the null device: the objects of the parent's threads still have
    it, and would close the file that got it next.
    """
    null = os.open(os.devnull, os.O_RDWR)
    for file in tuple(_files):
        _replace(file, null)
    for wrapper in tuple(_wrappers):
        raw = wrapper.connection
        if raw is None or wrapper.vendor == "sqlite":
            continue  # SQLite: its locks belong to the process that has them
        _parents.append(raw)
        _replace(raw if hasattr(raw, "fileno") else getattr(raw, "_sock", None), null)
        wrapper.connection = None
        wrapper.in_atomic_block = wrapper.needs_rollback = False
        wrapper.atomic_blocks, wrapper.savepoint_ids, wrapper.run_on_commit = [], [], []
    os.close(null)


def _replace(file: Any, null: int) -> None:
    try:
        number = file.fileno()
        if number >= 0:
            os.dup2(null, number, inheritable=False)
    except Exception:  # noqa: S110 - closed, or of a driver that does not tell
        pass
