"""Messages of brokers that have had their effects."""

from datetime import timedelta

from django.db import IntegrityError, transaction

from aftercommit.models import Received
from aftercommit.store.clock import DatabaseNow
from aftercommit.store.table import Table


class Inbox(Table):
    """What consumers have received."""

    def receive(self, *, message_id: str, consumer: str) -> bool:
        """Note a message in the caller's transaction; False if it was noted before.

        Waits for another transaction that is about to note the same one.
        """
        rows = Received.objects.using(self.alias)
        known = {"message_id": message_id, "consumer": consumer}
        try:
            with transaction.atomic(using=self.alias):
                rows.create(**known)
        except IntegrityError:
            return False
        return True

    def prune_received(self, *, older_than: timedelta, limit: int = 1000) -> int:
        """Forget up to ``limit`` messages received longer ago than ``older_than``.

        A copy that comes later than that has its effects again. Returns how many; call
        again while it is ``limit``.
        """
        rows = Received.objects.using(self.alias)
        old = rows.filter(received_at__lt=DatabaseNow() - older_than).order_by("received_at")
        chosen = list(old.values_list("pk", flat=True)[:limit])
        return rows.filter(pk__in=chosen).delete()[0]
