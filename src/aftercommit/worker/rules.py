"""What operators have set for one database alias, as this process knows it.

Which queues and tasks are paused, how many of their jobs run at once, and how often they start.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from aftercommit.enqueue.limits import has_limits, key_of_task, limit_of
from aftercommit.enqueue.lookup import known_task
from aftercommit.enqueue.names import names_of
from aftercommit.enqueue.registry import option
from aftercommit.enqueue.versions import versions_of
from aftercommit.gcra import Rate
from aftercommit.options.conf import NO_LIMITS, NO_RATES
from aftercommit.store.base import Store
from aftercommit.store.rules import RulesNow
from aftercommit.values import NOTHING, QUEUE, TASK, Limit, Pause, SetLimit
from aftercommit.worker.runs import now
from aftercommit.worker.set_rates import SetRates

logger = logging.getLogger("aftercommit")

KNOWN_FOR = timedelta(milliseconds=500)
IDLE = timedelta(seconds=5)  # without a job to claim
WITHOUT_TABLE = timedelta(seconds=10)  # until it is looked for again
NO_RULES = RulesNow([], [], [], [])


class RulesInForce:
    """Reads the table of rules, before jobs are claimed and not at each claim.

    An idle worker hardly reads it: what counts is known when there is something to claim. One
    that is busy reads it twice a second, and so follows a change within a second, also where
    nothing notifies it.

    A limit or a rate that was set at run time goes before the one of the code or the settings,
    which ``queue_limits`` and ``queue_rates`` hold at the start.
    """

    def __init__(
        self,
        store: Store,
        queue_limits: Mapping[str, int] = NO_LIMITS,
        queue_rates: Mapping[str, Rate] = NO_RATES,
    ) -> None:
        self.limits_changed: Callable[[], None] = lambda: None
        self.rates_changed: Callable[[], None] = lambda: None
        self.rates = SetRates(store.alias, queue_rates)
        self._store = store
        self._configured = queue_limits
        self._pauses: frozenset[Pause] = frozenset()
        self._set_limits: frozenset[SetLimit] = frozenset()
        self._read_again_at = float("-inf")
        self._lock = threading.Lock()
        self._read_idle_at = now() + IDLE.total_seconds()
        self.paused_queues: frozenset[str] = frozenset()
        self.paused_tasks: frozenset[str] = frozenset()
        self.resumed: Sequence[str] = ()  # tasks whose jobs are to be brought back
        self.queue_limits = queue_limits  # jobs at once
        self.limited: Mapping[str, str] = NOTHING  # see ClaimQuery
        self._task_limits: Mapping[str, int] = NO_LIMITS  # by each name that was given

    def refresh_if_idle(self) -> None:
        """Read the table now and then, because jobs of a resumed task may be the only ones."""
        if self.paused_tasks or self.resumed or now() >= self._read_idle_at:
            self.refresh()

    def refresh(self) -> None:
        """Read the table, unless that was done a moment ago."""
        with self._lock:  # whoever comes second must not go on with what was known before
            if now() >= self._read_again_at:
                self._read()

    def expire(self) -> None:
        """Let the next call of ``refresh()`` read the table. From any thread."""
        self._read_again_at = self._read_idle_at = float("-inf")

    def limit_of(self, task_path: str) -> Limit | None:
        """Return the limit of a task that holds now; None: this process has no such task."""
        declared = limit_of(task_path)
        if not self._task_limits or declared is None or declared.ordered:
            return declared
        slots = self._limit_at_run_time(task_path)
        return declared if slots is None else declared._replace(slots=slots)

    @property
    def has_limits(self) -> bool:
        """Whether a task of this process has a limit."""
        return bool(self._task_limits) or has_limits()

    def _limit_at_run_time(self, task_path: str) -> int | None:
        given = self._task_limits
        found = [given[name] for name in names_of(known_task(task_path)) if name in given]
        return min(found, default=None)

    def _read(self) -> None:
        began = now()
        self._read_again_at = began + KNOWN_FOR.total_seconds()  # before: it may expire meanwhile
        self._read_idle_at = began + IDLE.total_seconds()
        try:
            found = self._store.rules()
        except BaseException:
            self.expire()
            raise
        if found is None:
            self._read_again_at = now() + WITHOUT_TABLE.total_seconds()
        self._follow(found or NO_RULES)

    def _follow(self, found: RulesNow) -> None:
        self.resumed = found.resumed
        if (pauses := frozenset(found.pauses)) != self._pauses:
            self._tell_of_pauses(pauses)
            self._pauses = pauses
            self.paused_queues = frozenset(one.name for one in pauses if one.kind == QUEUE)
        names = [one.name for one in self._pauses if one.kind == TASK]
        # Each time: a task may be imported later, and then it may have versions.
        self.paused_tasks = frozenset(one for name in names for one in versions_of(name))
        set_limits = frozenset(found.limits)
        limits = {(one.kind, one.name): one.limit for one in set_limits}
        self._task_limits = {name: most for (kind, name), most in limits.items() if kind == TASK}
        rates_changed = self.rates.follow(found.rates)
        # Each time: a task may be imported later than its rule is read.
        limited = self._without_own_limit() if self._task_limits else NOTHING
        self.limited = {**self.rates.without_limit(), **limited} if self.rates.keys else limited
        self._follow_limits(set_limits, limits)
        if rates_changed:
            self.rates_changed()

    def _follow_limits(
        self, set_limits: frozenset[SetLimit], limits: Mapping[tuple[str, str], int]
    ) -> None:
        if set_limits != self._set_limits:
            self._tell_of_limits(set_limits)
            self._set_limits = set_limits
            queues = {name: most for (kind, name), most in limits.items() if kind == QUEUE}
            self.queue_limits = {**self._configured, **queues}
            self.limits_changed()

    def _without_own_limit(self) -> Mapping[str, str]:
        """Return the names of tasks that are limited at run time only, with their keys."""
        tasks = [known_task(name) for name in self._task_limits]
        return {
            name: key_of_task(task)
            for task in tasks
            if task is not None and option(task, "limit") is None
            for name in names_of(task)
        }

    def _tell_of_pauses(self, pauses: frozenset[Pause]) -> None:
        using = self._store.alias
        for one in sorted(pauses - self._pauses):
            logger.info("Database %r: %s is paused %s", using, one.what, one.details)
        for one in sorted(self._pauses - pauses):
            logger.info("Database %r: %s is resumed", using, one.what)

    def _tell_of_limits(self, present: frozenset[SetLimit]) -> None:
        using = self._store.alias
        before = {one.what: one.limit for one in self._set_limits}
        after = {one.what: one.limit for one in present}
        for what in sorted(before.keys() | after.keys()):
            limit = after.get(what)
            if limit == before.get(what):
                continue
            if limit is None:
                logger.info("Database %r: %s has no limit of the operators any more", using, what)
            else:
                logger.info("Database %r: %s runs %d jobs at once at most", using, what, limit)
