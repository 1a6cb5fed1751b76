"""From calls to jobs and edges: in an order in which each comes after those that it needs."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from aftercommit._compat import TaskResult, task_backends
from aftercommit.enqueue.calls import Call, Parts, parts_of
from aftercommit.enqueue.registry import option
from aftercommit.enqueue.unique import check_moment, rule_of
from aftercommit.errors import GraphError, HoldsSecret
from aftercommit.ids import new_uuids
from aftercommit.places import Path, place_of
from aftercommit.values import CANCEL, Edge, NewJob, OnConflict

if TYPE_CHECKING:
    from aftercommit.enqueue.backend import DatabaseBackend

KEYS = ("unique_key", "limit_key", "rate_key", "fair_key")
BY_ARGUMENTS = ("unique", "limit_by", "rate_by", "fair_by")
Fields = dict[str, Any]  # of a NewJob
Alike = dict[int, Fields]  # what the jobs of a task have in common, by the id() of the task
SEVERAL = (
    "the jobs of one graph are inserted by one transaction: enqueue the others by themselves, in "
    "a task that runs after these."
)


class Link(NamedTuple):
    """A call waits for another one, or for a job."""

    other: Call | TaskResult
    on_failure: str
    paths: Sequence[Path]  # of its result in the arguments


class Node(NamedTuple):
    """A call, and what it waits for."""

    call: Call
    parts: Parts
    links: list[Link]

    @property
    def has_holes(self) -> bool:
        """Whether results are to be put into the arguments."""
        return bool(self.parts.found)


class Graph(NamedTuple):
    """What is inserted for some calls."""

    using: str
    calls: list[Call]  # each after those that it needs
    jobs: list[NewJob]  # of these calls
    edges: list[Edge]
    rules: dict[UUID, OnConflict]  # of jobs with a unique key


def graph_of(roots: Sequence[Call]) -> Graph:
    """Return what to insert for these calls, and for all that they need; writes nothing.

    Raises ``GraphError``, and for each call as ``enqueue()`` does.
    """
    nodes = _in_order(roots)
    backends = _backends_of(nodes)
    using = _one_database(backends)
    ids = dict(zip((one.call for one in nodes), new_uuids(len(nodes)), strict=True))
    needed = {link.other for node in nodes for link in node.links if isinstance(link.other, Call)}
    jobs, edges = [], []
    rules: dict[UUID, OnConflict] = {}
    alike: Alike = {}
    for node in nodes:
        call, backend = node.call, backends[id(node.call.task)][1]
        place: Fields = {"id": ids[call], "needed": call in needed, "waits": bool(node.links)}
        job = _job_of(node, backend, alike, place)
        jobs.append(job)
        if job.unique_key is not None:
            rules[job.id] = _rule_of(node, backend)
        for link in node.links:
            other = link.other
            before = ids[other] if isinstance(other, Call) else _existing(other, using)
            where = place_of(link.paths) if link.paths else None
            edges.append(Edge(job.id, before, link.on_failure, where))
    return Graph(using, [one.call for one in nodes], jobs, edges, rules)


# ---- the order -------------------------------------------------------------------------


def _in_order(roots: Sequence[Call]) -> list[Node]:
    """Return the calls, each after those that it needs; raises ``GraphError`` for a circle.

    Without a recursion: a chain may be longer than Python's stack.
    """
    done: dict[Call, Node] = {}
    begun: dict[Call, Node] = {}
    stack = list(reversed(roots))
    while stack:
        call = stack[-1]
        if call in done:
            stack.pop()
        elif call in begun:  # all that it needs is done
            done[call] = begun.pop(call)
            stack.pop()
        else:
            node = _node_of(call)
            if not node.links:
                done[call] = node
                stack.pop()
                continue
            begun[call] = node
            others = [one.other for one in node.links if isinstance(one.other, Call)]
            for other in others:
                if other in begun:
                    raise _circle(list(begun), other)
            stack += [one for one in reversed(others) if one not in done]
    return list(done.values())


def _node_of(call: Call) -> Node:
    parts = parts_of(call)
    links = {key: Link(one, CANCEL, paths) for key, (one, paths) in parts.found.items()}
    for one in call.needs:
        key = id(one.other)
        paths = links[key].paths if key in links else ()
        links[key] = Link(one.other, one.on_failure, paths)
    return Node(call, parts, list(links.values()))


def _circle(begun: Sequence[Call], other: Call) -> GraphError:
    names = [one.task.module_path for one in begun[begun.index(other) :]]
    return GraphError(
        f"calls wait for each other in a circle: {' needs '.join([*names, names[0]])}",
        fix="let one of them not wait for the next.",
    )


# ---- the jobs --------------------------------------------------------------------------


def _job_of(node: Node, backend: "DatabaseBackend", alike: Alike, place: Fields) -> NewJob:
    """Return a job with its ``place`` in the graph.

    The jobs of a task without keys differ in little else: the rest is found out once, and
    remembered in ``alike``.
    """
    task, (args, kwargs, found) = node.call.task, node.parts
    if (rest := alike.get(id(task))) is not None:
        with suppress(HoldsSecret):
            payload = backend.payload_of(task, args, kwargs, has_holes=bool(found))
            return NewJob(payload=payload, **place, **rest)
    job = backend.new_job(task, args, kwargs, has_holes=bool(found))
    if any(option(task, one) is not None for one in BY_ARGUMENTS):
        if found:
            _check_keys(node, job, backend)
    elif job.payload_for is None:
        names = {one.name for one in fields(NewJob)} - {*place, "payload"}
        alike[id(task)] = {name: getattr(job, name) for name in names}
    return replace(job, payload=job.payload_under(place["id"]), **place)


def _check_keys(node: Node, job: NewJob, backend: "DatabaseBackend") -> None:
    """Refuse keys that depend on results: these are not known yet."""
    task = node.call.task
    for hole in ("", 0):
        args, kwargs, _found = parts_of(node.call, hole=hole)
        other = backend.new_job(task, args, kwargs, has_holes=True)
        differing = [name for name in KEYS if getattr(job, name) != getattr(other, name)]
        if differing:
            which = differing[0].removesuffix("_key")
            raise GraphError(
                f"the {which} key of {task.module_path} depends on an argument that is the "
                "result of another call, and is not known yet",
                fix=f"name in {which}_by only arguments whose values are given.",
            )


def _rule_of(node: Node, backend: "DatabaseBackend") -> OnConflict:
    task = node.call.task
    check_moment(task)
    rule = rule_of(task, backend.config)
    if node.links and rule.changes_holder:
        raise GraphError(
            f"{task.module_path} changes a job that is queued already (on_conflict='replace' or "
            "debounce), and this call waits for others",
            fix="use on_conflict='return' or 'raise' for a call that waits.",
        )
    return rule


def _backend_of(call: Call) -> Any:
    backend: Any = call.task.get_backend()
    if not hasattr(backend, "enqueue_calls"):
        raise GraphError(
            f"{call.task.module_path} is enqueued by the backend {call.task.backend!r}, which is "
            f"{type(backend).__qualname__}",
            fix="use calls of tasks whose backend is aftercommit.DatabaseBackend.",
        )
    return backend


def _backends_of(nodes: Sequence[Node]) -> dict[int, tuple[Any, Any]]:
    """Return the tasks and their backends, by the id() of the task."""
    calls = {id(node.call.task): node.call for node in nodes}
    return {key: (call.task, _backend_of(call)) for key, call in calls.items()}


def _one_database(backends: dict[int, tuple[Any, Any]]) -> str:
    by_alias: dict[str, str] = {}
    for task, backend in backends.values():
        by_alias.setdefault(backend.using, task.module_path)
    if len(by_alias) > 1:
        where = ", ".join(f"{path} in {alias!r}" for alias, path in sorted(by_alias.items()))
        raise GraphError(f"their jobs are in different databases: {where}", fix=SEVERAL)
    return next(iter(by_alias))


def _existing(result: TaskResult, using: str) -> UUID:
    known = result.backend in task_backends.settings
    alias = getattr(task_backends[result.backend], "using", None) if known else None
    if alias is None:
        raise GraphError(
            f"the result {result.id} is of the backend {result.backend!r}, which keeps no jobs "
            "in a database",
            fix="wait only for jobs of an aftercommit.DatabaseBackend.",
        )
    if alias != using:
        raise GraphError(
            f"the job of the result {result.id} is in the database {alias!r}, and this call in "
            f"{using!r}",
            fix=SEVERAL,
        )
    return UUID(result.id)
