"""What operators have set at run time."""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from aftercommit.models.portable import Name
from aftercommit.models.readable import Moment


class Rule(models.Model):
    """What operators have set for a queue or a task; without a row, nothing is set.

    Workers read all rows about twice a second, so a row is deleted when it says nothing more.
    """

    class Kind(models.TextChoices):
        """What a rule is about."""

        QUEUE = "queue", _("Queue")
        TASK = "task", _("Task")

    kind = Name(max_length=10, choices=Kind)
    name = Name(max_length=255)  # of the queue, or the path of the task
    paused_since = Moment(null=True)
    paused_by = models.CharField(max_length=255, default="", blank=True)
    paused_because = models.CharField(max_length=255, default="", blank=True)
    limit = models.IntegerField(null=True)  # jobs at once; NULL: as the code or settings say
    # Starts and burst as "60/m 10", see options.rate; NULL: as the code or settings say.
    rate = models.CharField(max_length=50, null=True)  # noqa: DJ001

    class Meta:
        verbose_name = _("rule")
        verbose_name_plural = _("rules")
        default_permissions = ("view",)
        permissions: ClassVar = [("pause_rule", "Can pause and resume queues and tasks")]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["kind", "name"], name="aftercommit_rule_once")
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"
