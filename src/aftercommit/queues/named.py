"""Which queues or tasks are meant, and in which databases; what does not exist is refused."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Self

from aftercommit.enqueue.called import declared_task, load_tasks, stored_names
from aftercommit.enqueue.configured import accepts_queue, job_aliases, our_backends
from aftercommit.enqueue.names import LONGEST_TASK_PATH, OURS
from aftercommit.enqueue.registry import declared_tasks
from aftercommit.errors import ConfigurationError, NothingToLimit, NothingToPause
from aftercommit.options.queues import (
    IN_ORDER,
    QUEUE_PREFIX,
    is_queue_name,
    is_stored_name,
    queues_of,
)
from aftercommit.store import store_for
from aftercommit.stored import without_version
from aftercommit.values import QUEUE, TASK

if TYPE_CHECKING:  # it needs the models
    from aftercommit.store.base import Store

Unknown = type[NothingToPause] | type[NothingToLimit]  # what is raised for a name


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a change has done."""

    changed: Sequence[tuple[str, str]]  # databases and names that were not so before
    unused: bool = False  # no job is there, and nothing that is known here enqueues one


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """What the caller has named. A broker has two queues, and a task may have several names."""

    kind: str  # queue or task
    names: Sequence[str]
    aliases: Sequence[str]
    unknown: Unknown

    @classmethod
    def of(
        cls,
        queue: str | None,
        task: object,
        broker: str | None,
        *,
        using: str | None,
        unknown: Unknown,
    ) -> Self:
        """Return what is meant; raises for what cannot be the name of anything."""
        if [queue, task, broker].count(None) != 2:  # noqa: PLR2004 - of three, one is given
            raise ConfigurationError("Name a queue, a task or a broker, and one of them only.")
        if task is not None:
            # What is set for a task holds for all versions of it.
            kind, names = TASK, list(dict.fromkeys(map(without_version, _names(task))))
        else:
            kind, names = QUEUE, list(_queues(queue, broker))
        return cls(kind=kind, names=names, aliases=aliases(using), unknown=unknown)

    def must_exist(self, *, undone: bool = False) -> None:
        """Raise for a name that nobody uses: it would do nothing.

        ``undone``: nothing was set for it, either, that could be taken away.
        """
        name = self.names[0]
        if self.kind == TASK:
            if declared_task(name) is None:
                raise self.unknown(what=f"task {name!r}", fix=_similar(name), undone=undone)
        elif self._is_of_broker:
            known = {name for backend in our_backends() for name in backend.config.libraries}
            broker = _broker(name)
            if broker not in known:
                fix = _relayed(known)
                raise self.unknown(what=f"relay to {broker!r}", fix=fix, undone=undone)
        elif not self._may_be_used():
            known = {queue for backend in our_backends() for queue in backend.queues}
            raise self.unknown(what=f"queue {name!r}", fix=_one_of(known), undone=undone)

    def change(self, write: Callable[["Store", str], bool]) -> list[tuple[str, str]]:
        """Write for each name in each database; return where that has changed something."""
        return [
            (alias, name)
            for alias in self.aliases
            for name in self.names
            if write(store_for(alias), name)
        ]

    def undone(self, changed: Sequence[tuple[str, str]]) -> Answer:
        """Answer what was taken away; raise if nothing was, and nobody uses the name."""
        if changed:
            return Answer(changed=changed)
        self.must_exist(undone=True)
        return Answer(changed=changed, unused=self.unused)

    @property
    def unused(self) -> bool:
        """Whether no job is there, and nothing that is known here enqueues one."""
        if self.kind == TASK or self._is_of_broker:
            return False
        load_tasks()
        known = {name for alias in self.aliases for name in configured(alias)}
        known |= {task.queue_name for task in declared_tasks()}
        return known.isdisjoint(self.names) and not self._has_jobs()

    @property
    def _is_of_broker(self) -> bool:
        return self.names[0].startswith(QUEUE_PREFIX)

    def _may_be_used(self) -> bool:
        """Return whether a backend accepts jobs for the queue, or there are jobs of before."""
        name = self.names[0]
        if is_queue_name(name) and any(accepts_queue(name, one) for one in self.aliases):
            return True
        return self._has_jobs()

    def _has_jobs(self) -> bool:
        return any(
            not {*store_for(alias).queues()}.isdisjoint(self.names) for alias in self.aliases
        )


def _queues(queue: str | None, broker: str | None) -> Sequence[str]:
    if queue is not None and not is_stored_name(queue):
        raise ConfigurationError(f"A queue cannot be called {queue!r}.")
    if queue is not None and queue.startswith(QUEUE_PREFIX):
        broker = _broker(queue)
    return [str(queue)] if broker is None else queues_of(broker)


def _broker(queue: str) -> str:
    return queue.removeprefix(QUEUE_PREFIX).removesuffix(IN_ORDER)


def _one_of(known: Iterable[str]) -> str:
    return f"one of the names that there are: {', '.join(sorted(known))}."


def _relayed(known: Iterable[str]) -> str:
    if known:
        return _one_of(known)
    return 'no backend has OPTIONS["relay"]; with {"relay": ["celery"]} there are messages.'


def _similar(path: str) -> str:
    declared = [task.module_path for task in declared_tasks()]
    found = get_close_matches(path, [one for one in declared if not one.startswith(OURS)])
    if found:
        return f"one that is spelt alike: {', '.join(sorted(found))}."
    return "its path as in 'shop.tasks.send'; no declared task has a similar one."


def _names(task: object) -> Sequence[str]:
    return stored_names(_path(task))


def _path(task: object) -> str:
    path = getattr(task, "module_path", task)
    if not isinstance(path, str) or len(path) > LONGEST_TASK_PATH:
        raise ConfigurationError(f"Expected a task or its path, got {type(task).__name__}.")
    if path.startswith(OURS):
        raise ConfigurationError(
            f"{path} is no task of the project: it publishes messages, or calls the functions of "
            "schedule(). Name the broker, or the queue."
        )
    return path


def aliases(using: str | None) -> Sequence[str]:
    """Return the databases that are meant; None: all that hold jobs."""
    known = job_aliases()
    if using is None:
        return known
    if using not in known:
        raise ConfigurationError(
            f"No backend of TASKS keeps jobs in the database {using!r}; "
            f"there are: {', '.join(known) or 'none'}."
        )
    return [using]


def configured(alias: str) -> set[str]:
    """Return the queues that the settings name for a database."""
    here = [one for one in our_backends() if one.using == alias]
    brokers = {name for one in here for name in one.config.libraries}
    relayed = {queue for name in brokers for queue in queues_of(name)}
    return relayed.union(*(one.queues for one in here))
