"""From which database the body of a task reads: a router that the runs of a worker steer."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, router

OURS = "aftercommit"  # the label of our app: its tables have a door of their own
# What may stand before the verb. Possessive: each of many comments could otherwise end anywhere.
_PREFIX = r"(?:[\s(]|--[^\n]*(?:\n|\Z)|/\*(?!M?!).*?\*/)*+"
_READS = re.compile(
    _PREFIX + r"(select|show|explain|describe|values|table|set|savepoint|release|rollback|begin|"
    r"start|commit|declare|fetch|close|pragma|listen|unlisten|with)\b",
    re.IGNORECASE | re.DOTALL,
)
_WRITES = (
    r"\b(?:(?:insert|replace|merge)(?:\s+\w+){0,2}?\s+into|"
    r"delete(?:\s+[`\"]?\w+[`\"]?)?\s+from|update)\s+"
)
_WRITES_INSIDE = re.compile(_PREFIX + r"with\b.*" + _WRITES, re.IGNORECASE | re.DOTALL)
_WRITES_TO_OURS = re.compile(_WRITES + r"(?:only\s+)?[`\"]?aftercommit_", re.IGNORECASE)


class RunReads:
    """Where one run reads; it is shared by the threads and coroutines of its context."""

    __slots__ = ("has_written", "replica", "using")

    def __init__(self, *, using: str, replica: str | None) -> None:
        self.using = using  # the primary, where the job is
        self.replica = replica  # None: reads go to the primary
        self.has_written = False  # then reads go to the primary: the replica may be behind


_current: ContextVar[RunReads | None] = ContextVar("aftercommit_reads", default=None)
_in_block: ContextVar[bool] = ContextVar("aftercommit_reads_from_primary", default=False)


def begin(*, using: str, replica: str | None) -> None:
    """Let the run whose context this is read from the primary, or from a replica."""
    _current.set(RunReads(using=using, replica=replica))
    _in_block.set(False)
    if replica is not None:
        _watch(connections[using])


def may_write(sql: object) -> bool:
    """Return whether a statement may change rows of the project, as far as its text shows."""
    if not isinstance(sql, str):
        return True
    if _READS.match(sql) and not _WRITES_INSIDE.match(sql):
        return False
    return _WRITES_TO_OURS.search(sql) is None


def _notice(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
    """Note what a run writes to the primary by whatever way; an ``execute_wrapper``."""
    reads = _current.get()
    if reads is None or reads.replica is None or reads.has_written:
        return execute(sql, params, many, context)
    if context["connection"].alias == reads.using and may_write(sql):
        reads.has_written = True
    return execute(sql, params, many, context)


def _watch(connection: Any) -> bool:
    """Notice from now on what is written by a connection; return whether that is new."""
    wrappers = connection.execute_wrappers
    if _notice in wrappers:
        return False
    wrappers.insert(0, _notice)  # Django's context manager takes away the last one
    return True


def is_installed() -> bool:
    """Return whether ``DATABASE_ROUTERS`` has our router."""
    return any(isinstance(one, ReplicaRouter) for one in router.routers)


@contextmanager
def from_primary() -> Iterator[None]:
    """Let reads in the block go to the primary, whatever the run reads from.

    For a read that must see what others have written a moment ago. Outside a task, or without
    ``ReplicaRouter`` in ``DATABASE_ROUTERS``, the block changes nothing.
    """
    if _current.get() is None:
        yield
        return
    token = _in_block.set(True)
    try:
        yield
    finally:
        _in_block.reset(token)


class ReplicaRouter:
    """The first of ``DATABASE_ROUTERS``: inside a task, reads go where the writes go.

    A task with ``read_from`` reads from a replica that has replayed the commit of its job, until
    it writes, by whatever way, or opens a transaction. Outside tasks the routers behind this one
    decide.
    """

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        """Return the primary or the replica of a run; None outside runs."""
        reads = _current.get()
        if reads is None:
            return None
        primary = self._primary(model, hints, reads)
        if reads.replica is None or primary != reads.using or reads.has_written:
            return primary
        connection = connections[primary]
        if _watch(connection) and connection.connection is not None:
            # Of another thread than the one in which the run began, as a coroutine's queries
            # are: what the run has sent there is not known.
            reads.has_written = True
        if reads.has_written or _in_block.get() or connection.in_atomic_block:
            return primary
        return reads.replica

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        """Return the primary of a run that reads from a replica; note that it writes."""
        reads = _current.get()
        if reads is None or reads.replica is None:
            return None
        primary = self._primary(model, hints, reads)
        if primary == reads.using and model._meta.app_label != OURS:
            reads.has_written = True
        return primary

    def allow_relation(self, obj1: Any, obj2: Any, **_hints: Any) -> bool | None:
        """Allow a relation between an object of the primary and one of its replica."""
        reads = _current.get()
        if reads is None or reads.replica is None:
            return None
        aliases = {obj1._state.db, obj2._state.db}
        return True if aliases <= {reads.using, reads.replica} else None

    def _primary(self, model: Any, hints: dict[str, Any], reads: RunReads) -> str:
        """Return where the other routers write."""
        for one in router.routers:
            ours = isinstance(one, ReplicaRouter)
            method = None if ours else getattr(one, "db_for_write", None)
            if method is not None and (chosen := method(model, **hints)):
                return str(chosen)
        of_instance = getattr(getattr(hints.get("instance"), "_state", None), "db", None)
        if of_instance == reads.replica:  # it was read there
            return reads.using
        return of_instance or DEFAULT_DB_ALIAS
