"""Imports batch by batch: each is one transaction, and none is doubled if this process dies.

The messages of a table are removed in the transaction that inserts their jobs. Those of Redis
are first moved to a place of ours there, those of RabbitMQ are held by our connection; then the
transaction inserts jobs and records the keys of their messages, then they are removed. A run that
died between leaves them in that place, or in their queue; the next run finds them there, and the
record says which are jobs already.
"""

from collections.abc import Callable, Sequence
from typing import Any

from aftercommit.importing.calls import Calls, Unfit
from aftercommit.importing.source import Source
from aftercommit.importing.values import Message, Report
from aftercommit.store import store_for
from aftercommit.values import NewJob

CONSUMER = "aftercommit.importing."  # and the source; as whom messages are recorded
BATCH_SIZE = 500
Read = Callable[[int], list[Message]]


class Import:
    """Moves the messages of a source into one database."""

    def __init__(
        self, source: Source, calls: Calls, *, using: str, batch_size: int = BATCH_SIZE
    ) -> None:
        self._source = source
        self._calls = calls
        self._store = store_for(using)
        self._batch_size = batch_size
        self._consumer = f"{CONSUMER}{source.name}"
        self._report = Report()
        self._jobs: dict[str, tuple[Any, NewJob]] = {}

    def run(self, *, limit: int | None = None, dry_run: bool = False) -> Report:
        """Import up to ``limit`` messages; ``dry_run``: only say what would be imported."""
        self._all(self._source.taken, limit=limit, dry_run=dry_run, is_ours=True)
        self._all(self._source.read, limit=limit, dry_run=dry_run)
        self._report.elsewhere = self._source.elsewhere()
        return self._report

    def _all(
        self, read: Read, *, limit: int | None, dry_run: bool, is_ours: bool = False
    ) -> None:
        batch = self._look if dry_run else self._import
        while (size := self._next_size(limit)) and batch(read, size, is_ours):
            pass

    def _next_size(self, limit: int | None) -> int:
        done = self._report.imported.total()
        return self._batch_size if limit is None else min(self._batch_size, limit - done)

    def _look(self, read: Read, size: int, is_ours: bool) -> bool:
        messages = read(size)
        for one in self._fit(messages):
            self._count(one)
        return bool(messages)

    def _import(self, read: Read, size: int, is_ours: bool) -> bool:
        with self._store.writing():
            messages = read(size)
            if not messages:
                return False
            fit = self._fit(messages)
            mine = fit if is_ours else self._source.take(fit)
            done = [one for one in mine if self._insert(one)]
        self._source.remove(mine)
        if self._source.keys_come_again:
            self._store.forget_received((one.key for one in mine), consumer=self._consumer)
        for one in done:
            self._count(one)
        self._report.again += len(mine) - len(done)
        return True

    def _fit(self, messages: Sequence[Message]) -> list[Message]:
        """Return those that can become jobs; note why the others cannot."""
        fit = []
        self._jobs.clear()
        for one in messages:
            try:
                self._jobs[one.key] = self._calls.job_of(one)
            except Unfit as error:
                self._report.left[one.task, str(error)] += 1
            else:
                fit.append(one)
        return fit

    def _insert(self, message: Message) -> bool:
        if self._source.may_come_again and not self._store.receive(
            message_id=message.key, consumer=self._consumer
        ):
            return False
        task, job = self._jobs[message.key]
        task.get_backend().insert_job(task, job)
        return True

    def _count(self, message: Message) -> None:
        task, _job = self._jobs[message.key]
        self._report.imported[task.module_path] += 1
