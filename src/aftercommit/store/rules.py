"""What operators have set at run time: which queues and tasks are paused."""

from typing import NamedTuple

from django.db import Error, IntegrityError, transaction
from django.db.models import QuerySet

from aftercommit.models import Rule
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.table import Table
from aftercommit.values import TASK, Pause


class RulesNow(NamedTuple):
    """What the table says at a moment."""

    pauses: list[Pause]
    resumed: list[str]  # tasks whose jobs are to be brought back


class Rules(Table):
    """Reads and writes the rules. In a transaction of the caller, a change is part of it."""

    def pauses(self) -> list[Pause]:
        """Return the present pauses."""
        found = self.rules()
        return [] if found is None else found.pauses

    def rules(self) -> RulesNow | None:
        """Return the rules as they are now; None where the table is not there yet.

        Workers of a new version may be started before its migrations: nothing can be paused
        until then, and they go on.
        """
        names = ("kind", "name", "paused_since", "paused_by", "paused_because")
        try:
            rows = [Pause._make(row) for row in self._rules.values_list(*names)]
        except Error:
            if self._in_transaction() or self._has_table():
                raise
            return None
        return RulesNow(
            pauses=[one for one in rows if one.since is not None],
            resumed=[one.name for one in rows if one.since is None and one.kind == TASK],
        )

    def pause(self, kind: str, name: str, *, by: str, why: str) -> bool:
        """Let no job of a queue or a task be claimed; False if that was so already."""
        given = {"paused_since": DatabaseNow(), "paused_by": by, "paused_because": why}
        rows = self._rules.filter(kind=kind, name=name)
        with self._write():
            paused = bool(rows.filter(paused_since__isnull=True).update(**given))
            if not paused and not rows.exists():
                paused = self._create(kind=kind, name=name, **given)
            if paused:
                self._tell_workers()
        return paused

    def resume(self, kind: str, name: str) -> bool:
        """End a pause; False if there was none."""
        with self._write():
            rows = self._rules.filter(kind=kind, name=name, paused_since__isnull=False)
            if kind == TASK:  # it stays until the jobs that are set aside are back
                resumed = bool(rows.update(paused_since=None))
            else:
                resumed = bool(rows.delete()[0])
            if resumed:
                self._tell_workers()
        return resumed

    def _create(self, **given: object) -> bool:
        """Return False if somebody else has created the row meanwhile, who paused as well."""
        try:
            with transaction.atomic(using=self.alias):
                self._rules.create(**given)
        except IntegrityError:
            return False
        return True

    def _tell_workers(self) -> None:
        """Notify all workers that the rules have changed, where the database can."""

    def _has_table(self) -> bool:
        return Rule._meta.db_table in self.connection.introspection.table_names()

    @property
    def _rules(self) -> QuerySet[Rule]:
        return Rule.objects.using(self.alias)
