"""The rates that hold for one database alias: those of operators, or of code and settings."""

import logging
from collections.abc import Iterable, Mapping
from datetime import timedelta

from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.names import names_of
from aftercommit.enqueue.rates import has_rates, rate_key_of_task, rate_of
from aftercommit.enqueue.registry import option
from aftercommit.gcra import Rate
from aftercommit.options.conf import NO_RATES
from aftercommit.values import NOTHING, QUEUE, TASK, SetRate

logger = logging.getLogger("aftercommit")


class SetRates:
    """What operators have set at run time, before what ``queue_rates`` and declarations say."""

    def __init__(self, using: str, queue_rates: Mapping[str, Rate]) -> None:
        self._using = using
        self._configured = queue_rates
        self._present: frozenset[SetRate] = frozenset()
        self._of_tasks: Mapping[str, Rate] = NO_RATES  # by each name that was given
        self.of_queues = queue_rates
        self.keys: Mapping[str, str] = NOTHING  # see ``rated`` of ClaimQuery

    def follow(self, rates: Iterable[SetRate]) -> bool:
        """Let these rates hold; return whether others did before."""
        present = frozenset(rates)
        if changed := present != self._present:
            self._tell(present)
            self._present = present
            of_queues = {one.name: one.rate for one in present if one.kind == QUEUE}
            self.of_queues = {**self._configured, **of_queues}
            self._of_tasks = {one.name: one.rate for one in present if one.kind == TASK}
        # Each time: a task may be imported later than its rule is read.
        self.keys = self._keys() if self._of_tasks else NOTHING
        return changed

    def rate_of(self, task_path: str) -> Rate | None:
        """Return the rate of a task that holds now; None: it has none."""
        given = self._of_tasks
        if not given or (task := known_task(task_path)) is None:
            return rate_of(task_path)
        found = [given[name] for name in names_of(task) if name in given]
        return max(found, key=_slowness) if found else rate_of(task_path)

    @property
    def are_there(self) -> bool:
        """Whether a task of this process has a rate."""
        return bool(self._of_tasks) or has_rates()

    def without_limit(self) -> dict[str, str]:
        """Return ``keys`` of tasks without a limit: claims decide about jobs with a key only."""
        return {
            name: key
            for name, key in self.keys.items()
            if option(known_task(name), "limit") is None
        }

    def _keys(self) -> Mapping[str, str]:
        tasks = [known_task(name) for name in self._of_tasks]
        return {
            name: rate_key_of_task(task)
            for task in tasks
            if task is not None and option(task, "rate") is None
            for name in names_of(task)
        }

    def _tell(self, present: frozenset[SetRate]) -> None:
        before = {one.what: one for one in self._present}
        after = {one.what: one for one in present}
        for what in sorted(before.keys() | after.keys()):
            rate = after.get(what)
            if rate is None:
                text = "Database %r: %s has no rate of the operators any more"
                logger.info(text, self._using, what)
            elif rate != before.get(what):
                text = "Database %r: %s starts %s, burst %d"
                logger.info(text, self._using, what, rate.text, rate.rate.burst)


def _slowness(rate: Rate) -> tuple[timedelta, int]:
    return rate.interval, -rate.burst
