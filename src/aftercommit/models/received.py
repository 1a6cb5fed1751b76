"""Messages of brokers that were received."""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from aftercommit.models.portable import UniqueByBytes, UtcNow
from aftercommit.models.readable import Moment


class Received(models.Model):
    """A broker's message whose effects are committed: its next copy changes nothing."""

    message_id = models.CharField(max_length=255)
    consumer = models.CharField(max_length=255)  # the path of the function, or its given name
    received_at = Moment(db_default=UtcNow(), db_index=True)

    class Meta:
        verbose_name = _("received message")
        verbose_name_plural = _("received messages")
        constraints: ClassVar = [
            UniqueByBytes(fields=["message_id", "consumer"], name="aftercommit_received_once")
        ]

    def __str__(self) -> str:
        return f"{self.message_id} by {self.consumer}"
