"""Messages of brokers that were received."""

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Received(models.Model):
    """A broker's message whose effects are committed: its next copy changes nothing."""

    message_id = models.CharField(max_length=255)
    consumer = models.CharField(max_length=255)  # the function, by its path
    received_at = models.DateTimeField(db_default=Now(), db_index=True)

    class Meta:
        verbose_name = _("received message")
        verbose_name_plural = _("received messages")
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["message_id", "consumer"], name="aftercommit_received_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.message_id} by {self.consumer}"
