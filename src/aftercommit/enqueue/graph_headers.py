"""The headers of the jobs of a graph: one call of the functions for each of its tasks."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

from aftercommit.enqueue.graphs import Graph
from aftercommit.enqueue.headers import inside
from aftercommit.values import NewJob

Answer = TypeVar("Answer")


def with_headers(graph: Graph, insert: Callable[[Sequence[NewJob]], Answer]) -> Answer:
    """Call ``insert`` with the jobs of a graph and the headers that the project writes."""
    tasks = {id(call.task): call.task for call in graph.calls}
    backends = {key: task.get_backend() for key, task in tasks.items()}
    if not any(one.header_writers for one in backends.values()):  # mostly
        return insert(graph.jobs)

    def write(stack: ExitStack) -> Answer:
        return insert(_jobs(stack, graph, backends))

    return inside(write)


def _jobs(stack: ExitStack, graph: Graph, backends: dict[int, Any]) -> list[NewJob]:
    numbers: dict[int, list[int]] = {}
    for number, call in enumerate(graph.calls):
        numbers.setdefault(id(call.task), []).append(number)
    jobs = list(graph.jobs)
    for key, some in numbers.items():
        ids = [str(jobs[number].id) for number in some]
        written = backends[key].enter_headers(stack, graph.calls[some[0]].task, ids)
        for number in some if written is not None else ():
            jobs[number] = written.into(jobs[number])
    return jobs
