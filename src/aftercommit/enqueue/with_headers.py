"""The part of a backend that lets functions of the project write headers of its jobs."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, TypeVar

from aftercommit.enqueue.headers import HeaderWriters, Written, inside, jobs_in
from aftercommit.enqueue.task import Task
from aftercommit.middleware import Enqueuing
from aftercommit.options.conf import BackendOptions
from aftercommit.values import Together

Answer = TypeVar("Answer")


class WithHeaders:
    """Writes the headers of ``OPTIONS["headers"]`` and ``OPTIONS["middleware"]``."""

    alias: str
    config: BackendOptions
    _writers: HeaderWriters | None = None  # made by the first call: it imports

    @property
    @abstractmethod
    def using(self) -> str:
        """The database alias of the jobs."""

    def _with_headers(
        self, task: Task, jobs: Together, insert: Callable[[Any], Answer]
    ) -> Answer:
        """Call ``insert`` with the jobs of one call and the headers that the project writes."""
        if not self.header_writers:  # mostly
            return insert(jobs)

        def write(stack: ExitStack) -> Answer:
            written = self.enter_headers(stack, task, jobs_in(jobs))
            return insert(jobs if written is None else written.into_all(jobs))

        return inside(write)

    def enter_headers(
        self, stack: ExitStack, task: Task, job_ids: Sequence[str]
    ) -> Written | None:
        """Return the headers of jobs of one call; see ``HeaderWriters.enter``."""
        enqueuing = Enqueuing(
            task=task,
            name=task.module_path,
            job_ids=job_ids,
            queue=task.queue_name,
            backend=self.alias,
            using=self.using,
        )
        return self.header_writers.enter(stack, enqueuing)

    @property
    def header_writers(self) -> HeaderWriters:
        """The functions that write headers; raises ``ConfigurationError`` if one is not there."""
        if self._writers is None:
            self._writers = HeaderWriters(self.config)
        return self._writers
