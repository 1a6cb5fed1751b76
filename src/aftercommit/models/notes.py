"""What a run says while it goes on: its progress, its log, and what it keeps for the next run.

Not in the row of the job: that row is written by whoever claims and finishes.
"""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from aftercommit.models.portable import Name
from aftercommit.models.readable import Identity, Moment


class Progress(models.Model):
    """How far a job is."""

    job_id = models.UUIDField(primary_key=True)
    token = models.BigIntegerField()  # of the run that says so; a later run is not overwritten
    done = models.BigIntegerField()
    total = models.BigIntegerField(null=True)
    message = models.CharField(max_length=255, default="", blank=True)
    changed_at = Moment()

    class Meta:
        verbose_name = _("progress")
        verbose_name_plural = _("progress")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.job_id}: {self.done} of {self.total}"


class LogLine(models.Model):
    """A line that a run has logged."""

    job_id = Identity()
    token = models.BigIntegerField()  # of the run, also of one that was released
    attempt = models.IntegerField()
    level = models.SmallIntegerField()
    logger = models.CharField(max_length=255, default="", blank=True)
    message = models.TextField()
    logged_at = Moment()

    class Meta:
        verbose_name = _("log line")
        verbose_name_plural = _("log lines")
        default_permissions = ("view",)
        indexes: ClassVar = [
            models.Index(fields=["job_id", "id"], name="aftercommit_logline_job"),
        ]

    def __str__(self) -> str:
        return self.message


class Saved(models.Model):
    """What a job keeps for its next run: its checkpoint, or the answer of a call made once.

    Who reads the checkpoint writes its token here first, and so fences the runs before it.
    """

    class Kind(models.TextChoices):
        """What it is."""

        CHECKPOINT = "checkpoint", _("Checkpoint")
        ONCE = "once", _("Call made once")

    job_id = Identity()
    kind = Name(max_length=10, choices=Kind)
    name = Name(max_length=100, default="", blank=True)
    token = models.BigIntegerField()  # of the run that has read or written it last
    value = models.TextField(null=True)  # noqa: DJ001 - JSON; NULL: read, and nothing saved yet
    saved_at = Moment()

    class Meta:
        verbose_name = _("saved value")
        verbose_name_plural = _("saved values")
        default_permissions = ("view",)
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["job_id", "kind", "name"], name="aftercommit_saved_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.name} of {self.job_id}"
