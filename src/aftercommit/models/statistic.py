"""How many runs have ended and how, and how long they waited and ran."""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from aftercommit.models.portable import Name
from aftercommit.models.readable import Moment


class Statistic(models.Model):
    """What is counted of one task, queue and outcome, in a span of time.

    A worker process adds rows of the span "flush" and never writes to them again, so no two
    processes wait for the same row. Later they are added to the rows of their minute, their hour
    and of all time, and deleted.
    """

    class Span(models.TextChoices):
        """What a row covers."""

        FLUSH = "flush", _("Flush")
        MINUTE = "minute", _("Minute")
        HOUR = "hour", _("Hour")
        TOTAL = "total", _("Total")

    id = models.UUIDField(primary_key=True, editable=False)
    span = Name(max_length=6, choices=Span)
    began_at = Moment()  # of a flush: when it was written
    task_path = Name(max_length=255)
    queue = Name(max_length=100)
    outcome = Name(max_length=10)
    jobs = models.BigIntegerField()
    waited = models.DurationField()  # the sum
    ran = models.DurationField()
    waits = models.TextField()  # JSON: how many in each bucket, see ``tallies``
    runs = models.TextField()

    class Meta:
        verbose_name = _("statistic")
        verbose_name_plural = _("statistics")
        default_permissions = ("view",)
        indexes: ClassVar = [
            models.Index(fields=["span", "began_at"], name="aftercommit_statistic_span")
        ]

    def __str__(self) -> str:
        return f"{self.span} {self.began_at}: {self.task_path} {self.outcome}"
