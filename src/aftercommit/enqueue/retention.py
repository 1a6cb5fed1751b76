"""How long ended jobs of one database alias are kept: by backend, task and state."""

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, Protocol, TypeVar

from django.utils.module_loading import import_string

from aftercommit.enqueue.configured import our_backends
from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.policy import keep_of
from aftercommit.enqueue.registry import declared_tasks
from aftercommit.errors import ConfigurationError
from aftercommit.options.conf import BackendOptions
from aftercommit.options.keep import NEVER, USUALLY_KEPT, Keep
from aftercommit.stored import without_version

# Of rows that should have gone with the success: a row of the user's protects them, or the task
# was declared otherwise when they ended.
KEPT_NEVERTHELESS = timedelta(days=1)
GROUPS_KEPT = timedelta(days=30)  # where jobs are kept for ever


class OfBackend(Protocol):
    """A job, as far as this room needs to know it."""

    @property
    def backend(self) -> str:
        """The alias of its backend."""


Ended = TypeVar("Ended", bound=OfBackend)
Archive = Callable[[list[Any]], object]


class Retention:
    """The rules for one database alias; ``backends`` are the options of its backends."""

    def __init__(self, backends: Mapping[str, BackendOptions]) -> None:
        self._backends = dict(backends)
        self._known: dict[tuple[str, str], Keep] = {}
        self._archives = {alias: archive_of(one) for alias, one in self._backends.items()}

    def span_of(self, *, backend: str, task_path: str, state: str) -> timedelta:
        """Return how long a job is kept after its end; ``NEVER`` if nobody here may delete it.

        That is so for a backend that TASKS does not name, and for a task that this process does
        not know: whoever declares it may have said that its jobs are kept for ever.
        """
        options = self._backends.get(backend)
        if options is None:
            return NEVER
        keep = self._keep_of(task_path, backend, options)
        return NEVER if keep is None else _span(keep, state)

    def spans(self) -> list[timedelta]:
        """Return every span after which some job may be deleted, the shortest first."""
        keeps = [one for options in self._backends.values() for one in self._of_declared(options)]
        found = {span for keep in keeps for span in keep.spans()}
        if any(keep.succeeded is None for keep in keeps):
            found.add(KEPT_NEVERTHELESS)
        return sorted(found - {NEVER})

    def of_messages(self) -> timedelta:
        """Return how long the inbox knows a message: as the most careful backend says."""
        return max((one.keep_received for one in self._backends.values()), default=NEVER)

    def of_audit(self) -> timedelta:
        """Return how long the audit is kept: as the most careful backend says."""
        return max((one.keep_audit for one in self._backends.values()), default=NEVER)

    def of_groups(self) -> timedelta:
        """Return how long a group is kept after its last job: as its jobs at most are."""
        return max(self.spans(), default=GROUPS_KEPT)

    @property
    def archives(self) -> bool:
        """Whether a backend has an archive."""
        return any(self._archives.values())

    def by_archive(self, ended: Iterable[Ended]) -> Iterable[tuple[Archive | None, list[Ended]]]:
        """Return jobs by the archive that gets them before they are deleted, if one does."""
        found: dict[Archive | None, list[Ended]] = {}
        for one in ended:
            found.setdefault(self._archives.get(one.backend), []).append(one)
        return found.items()

    def _keep_of(self, task_path: str, backend: str, options: BackendOptions) -> Keep | None:
        name = (backend, task_path)
        found = self._known.get(name)
        if found is None:
            task = known_task(task_path) or known_task(without_version(task_path))
            if task is None:
                return None
            self._known[name] = found = keep_of(task, options)
        return found

    @staticmethod
    def _of_declared(options: BackendOptions) -> list[Keep]:
        own: list[Any] = [keep_of(task, options) for task in declared_tasks()]
        return [USUALLY_KEPT.changed_by(options.keep_result), *own]


def _span(keep: Keep, state: str) -> timedelta:
    span: timedelta | None = getattr(keep, state)
    return KEPT_NEVERTHELESS if span is None else span


def retention_of(using: str) -> Retention:
    """Return the rules for a database alias, by the backends of TASKS that keep their jobs there.

    Raises ``ConfigurationError`` for an archive that cannot be imported.
    """
    return Retention({one.alias: one.config for one in our_backends() if one.using == using})


def archive_of(options: BackendOptions) -> Archive | None:
    """Return the function that ``OPTIONS["archive"]`` gives or names.

    Raises ``ConfigurationError`` for a path that leads to no function.
    """
    given = options.archive
    if not isinstance(given, str):
        return given
    try:
        found: Any = import_string(given)
    except ImportError as error:
        raise ConfigurationError(f"archive: {given!r} cannot be imported: {error}.") from error
    if not callable(found):
        raise ConfigurationError(f"archive: {given!r} is not a function.")
    archive: Archive = found
    return archive
