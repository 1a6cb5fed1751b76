"""The inbox: which messages of brokers a consumer has already processed."""

from collections.abc import Iterable
from datetime import timedelta

from django.db import IntegrityError, transaction

from aftercommit.models import Received
from aftercommit.store.clock import DatabaseNow, ago
from aftercommit.store.table import Table

AT_ONCE = 500  # records


class Inbox(Table):
    """Records the messages that consumers have processed."""

    def receive(self, *, message_id: str, consumer: str) -> bool:
        """Record a message in the caller's transaction; False if it is recorded already.

        Waits for another transaction that has recorded the same message and has not ended.
        """
        rows = Received.objects.using(self.alias)
        # Not by the default of the column, which on MySQL follows the time zone of the session.
        known = {"message_id": message_id, "consumer": consumer, "received_at": DatabaseNow()}
        try:
            with transaction.atomic(using=self.alias):
                rows.create(**known)
        except IntegrityError:
            return False
        return True

    def forget_received(self, message_ids: Iterable[str], *, consumer: str) -> None:
        """Delete the records of messages that cannot come again, though others have their ids."""
        rows = Received.objects.using(self.alias).filter(consumer=consumer)
        left = list(message_ids)
        while left:  # SQLite takes no more parameters than a few thousand
            part, left = left[:AT_ONCE], left[AT_ONCE:]
            rows.filter(message_id__in=part).delete()

    def prune_received(self, *, older_than: timedelta, limit: int = 1000) -> int:
        """Delete the records of up to ``limit`` messages that are older than ``older_than``.

        A copy of a message that arrives later than that is processed again. Returns how many
        were deleted; call again while it returns ``limit``.
        """
        rows = Received.objects.using(self.alias)
        old = rows.filter(received_at__lt=ago(older_than)).order_by("received_at")
        chosen = list(old.values_list("pk", flat=True)[:limit])
        return rows.filter(pk__in=chosen).delete()[0]
