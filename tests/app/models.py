"""What tasks leave behind, for tests to count."""

from django.db import models


class Effect(models.Model):
    """One thing a task did: a test counts the rows of one key."""

    key = models.CharField(max_length=200, db_index=True)
    job_id = models.UUIDField(null=True)
    value = models.JSONField(null=True)
    created = models.DateTimeField(auto_now_add=True)

    def __str__(self) -> str:
        """Return the key, for failed assertions."""
        return self.key


class Account(models.Model):
    """Money to move: lost and doubled work shows in the sum."""

    balance = models.IntegerField(default=0)

    def __str__(self) -> str:
        """Return the balance, for failed assertions."""
        return str(self.balance)
