"""What operators have set at run time: which queues and tasks are paused, limited or rated."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID, uuid5

from django.db import Error, IntegrityError, transaction
from django.db.models import Q, QuerySet

from aftercommit.models import Dependency, Rule
from aftercommit.options.rate import rate_of_rule
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.table import Table
from aftercommit.values import TASK, Pause, SetLimit, SetRate

PAUSES = UUID("5f6d5e0c-9a35-4c55-9d0e-5c1f3f4f8b11")
PAUSED = ("kind", "name", "paused_since", "paused_by", "paused_because")


def pause_of(task_path: str) -> UUID:
    """Return what the jobs of a paused task wait for: an id that no job has."""
    return uuid5(PAUSES, task_path)


class RulesNow(NamedTuple):
    """What the table says at a moment."""

    pauses: list[Pause]
    resumed: list[str]  # tasks whose jobs are to be brought back
    limits: list[SetLimit]
    rates: list[SetRate]


class Rules(Table):
    """Reads and writes the rules. In a transaction of the caller, a change is part of it."""

    def pauses(self) -> list[Pause]:
        """Return the present pauses."""
        found = self.rules()
        return [] if found is None else found.pauses

    def limits(self) -> list[SetLimit]:
        """Return the present limits."""
        found = self.rules()
        return [] if found is None else found.limits

    def rates(self) -> list[SetRate]:
        """Return the present rates."""
        found = self.rules()
        return [] if found is None else found.rates

    def rules(self) -> RulesNow | None:
        """Return the rules as they are now; None where the table is not there yet.

        Workers of a new version may be started before its migrations: nothing can be paused
        until then, and they go on.
        """
        try:
            rows = list(self._rules.values_list(*PAUSED, "limit", "rate"))
        except Error:
            if self._in_transaction() or self._has_table():
                raise
            return None
        pauses = [Pause._make(row[: len(PAUSED)]) for row in rows]
        limits = [SetLimit(row[0], row[1], row[-2]) for row in rows if row[-2] is not None]
        rates = [
            SetRate(row[0], row[1], *rate)
            for row in rows
            if row[-1] is not None and (rate := rate_of_rule(row[-1])) is not None
        ]
        return RulesNow(
            pauses=[one for one in pauses if one.since is not None],
            resumed=self._resumed(
                [one.name for one in pauses if one.since is None and one.kind == TASK],
                [one.name for some in (limits, rates) for one in some if one.kind == TASK],
            ),
            limits=limits,
            rates=rates,
        )

    def _resumed(self, names: Sequence[str], say_more: Sequence[str]) -> list[str]:
        """Return those of the tasks that are not paused whose jobs are to be brought back.

        The rule of a task that says nothing more is there for that. One that says something
        else may be there for that as well.
        """
        only = [name for name in names if name not in say_more]
        others = [name for name in names if name in say_more]
        aside = self._dependencies.filter(needs_id__in=[pause_of(one) for one in others])
        return [*only, *others] if others and aside.exists() else only

    def pause(self, kind: str, name: str, *, by: str, why: str) -> bool:
        """Let no job of a queue or a task be claimed; False if that was so already."""
        given = {"paused_since": DatabaseNow(), "paused_by": by, "paused_because": why}
        return self._set(kind, name, given, unless=Q(paused_since__isnull=False))

    def resume(self, kind: str, name: str) -> bool:
        """End a pause; False if there was none."""
        with self._write():
            rows = self._rules.filter(kind=kind, name=name, paused_since__isnull=False)
            resumed = bool(rows.update(paused_since=None))
            if resumed:
                if kind != TASK:  # else it stays until the jobs that are set aside are back
                    self._silent(kind, name).delete()
                self._tell_workers()
        return resumed

    def limit(self, kind: str, name: str, limit: int) -> bool:
        """Let so many jobs of a queue or a task run at once; False if that was so already."""
        return self._set(kind, name, {"limit": limit}, unless=Q(limit=limit))

    def unlimit(self, kind: str, name: str) -> bool:
        """Let what code and settings say hold again; False if it did already."""
        return self._unset(kind, name, "limit")

    def rate(self, kind: str, name: str, rate: str) -> bool:
        """Let jobs of a queue or a task start so often; False if that was so already.

        ``rate``: what ``options.rate.stored_rate`` has returned.
        """
        return self._set(kind, name, {"rate": rate}, unless=Q(rate=rate))

    def unrate(self, kind: str, name: str) -> bool:
        """Let the rate that code and settings say hold again; False if it did already."""
        return self._unset(kind, name, "rate")

    def _unset(self, kind: str, name: str, column: str) -> bool:
        with self._write():
            rows = self._rules.filter(kind=kind, name=name, **{f"{column}__isnull": False})
            changed = bool(rows.update(**{column: None}))
            if changed:
                self._forget_rule(kind, name)
                self._tell_workers()
        return changed

    def _set(self, kind: str, name: str, given: dict[str, object], *, unless: Q) -> bool:
        rows = self._rules.filter(kind=kind, name=name)
        with self._write():
            changed = bool(rows.exclude(unless).update(**given))
            if not changed and not rows.exists():
                # Somebody else may create the row meanwhile, and say something else in it.
                changed = self._create(kind=kind, name=name, **given) or bool(
                    rows.exclude(unless).update(**given)
                )
            if changed:
                self._tell_workers()
        return changed

    def _create(self, **given: object) -> bool:
        """Return False if somebody else has created the row meanwhile."""
        try:
            with transaction.atomic(using=self.alias):
                self._rules.create(**given)
        except IntegrityError:
            return False
        return True

    def _forget_rule(self, kind: str, name: str) -> None:
        """Delete a rule that says nothing, unless jobs of the task are set aside meanwhile."""
        with self._write():
            rows = self._silent(kind, name)
            # Nobody pauses, or sets aside, while the row is locked.
            locked = list(rows.select_for_update(skip_locked=self._skips).values_list("pk"))
            aside = self._dependencies.filter(needs_id=pause_of(name))
            if locked and not (kind == TASK and aside.exists()):
                rows.delete()

    def _silent(self, kind: str, name: str) -> QuerySet[Rule]:
        rows = self._rules.filter(kind=kind, name=name)
        nothing = {"paused_since__isnull": True, "limit__isnull": True, "rate__isnull": True}
        return rows.filter(**nothing)

    def _tell_workers(self) -> None:
        """Notify all workers that the rules have changed, where the database can."""

    def _has_table(self) -> bool:
        return Rule._meta.db_table in self.connection.introspection.table_names()

    @property
    def _skips(self) -> bool:
        return self.connection.features.has_select_for_update_skip_locked

    @property
    def _rules(self) -> QuerySet[Rule]:
        return Rule.objects.using(self.alias)

    @property
    def _dependencies(self) -> QuerySet[Dependency]:
        return Dependency.objects.using(self.alias)
