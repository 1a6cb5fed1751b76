"""What people have done in the dashboard: written with the action, and read page by page."""

# Records are numbered in the order of time, so the primary key is all the index they need.

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db.models import F, QuerySet

from aftercommit.models import AuditRecord
from aftercommit.store.clock import DatabaseNow, ago
from aftercommit.store.table import Table

LONGEST = 255  # characters of a column


class Audit(Table):
    """Reads and writes the records. In a transaction of the caller, a record is part of it."""

    def record_action(
        self,
        action: str,
        *,
        by: str,
        user_id: str,
        subject: str = "",
        details: Mapping[str, Any] | None = None,
        found: int = 0,
        changed: int = 0,
    ) -> int:
        """Write what a person does; return the number of the record."""
        row = self._records.create(
            at=DatabaseNow(),
            by=_storable(by),
            user_id=_storable(user_id),
            action=action,
            subject=_storable(subject),
            details=_without_nul(dict(details or {})),
            found=found,
            changed=changed,
        )
        return int(row.pk)

    def count_action(
        self, number: int, *, found: int, changed: int, details: Mapping[str, Any]
    ) -> None:
        """Add to what an action has changed so far, and write how far it has come."""
        self._records.filter(pk=number).update(
            found=F("found") + found,
            changed=F("changed") + changed,
            details=_without_nul(dict(details)),
        )

    def lock_action(self, number: int) -> AuditRecord | None:
        """Return a record, for the caller's transaction alone; wait for who has it."""
        return self._records.filter(pk=number).select_for_update().first()

    def action(self, number: int) -> AuditRecord | None:
        """Return a record, or None."""
        return self._records.filter(pk=number).first()

    def actions(
        self, *, limit: int, before: int | None = None, by: str = "", subject: str = ""
    ) -> list[AuditRecord]:
        """Return the next records, the newest first; ``by``, ``subject``: of these only."""
        rows = self._records.order_by("-pk")
        rows = rows if before is None else rows.filter(pk__lt=before)
        given = {"by": by, "subject": subject}
        return list(rows.filter(**{name: one for name, one in given.items() if one})[:limit])

    def prune_audit(self, *, older_than: timedelta, limit: int) -> int:
        """Delete those among the first ``limit`` records that are so old; return how many."""
        first = self._records.order_by("pk").values_list("pk", flat=True)[:limit]
        ids = list(first)
        if not ids:
            return 0
        old = self._records.filter(pk__in=ids, at__lt=ago(older_than))
        return old.delete()[0]

    @property
    def _records(self) -> QuerySet[AuditRecord]:
        return AuditRecord.objects.using(self.alias)


def _storable(text: str) -> str:
    return str(_without_nul(text))[:LONGEST]


def _without_nul(value: Any) -> Any:
    """Return a value as PostgreSQL can store it: without NUL in texts."""
    match value:
        case str():
            return value.replace("\0", "\\0")
        case dict():
            return {_without_nul(name): _without_nul(one) for name, one in value.items()}
        case list():
            return [_without_nul(one) for one in value]
    return value
