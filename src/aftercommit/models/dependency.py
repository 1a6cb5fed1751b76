"""Dependencies: which job waits for the end of what."""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _


class Dependency(models.Model):
    """One job waits for another one, or for the end of the pause of its task.

    ``Job.waits_for`` counts those that have not ended.

    Without foreign keys: their checks would lock rows that workers claim and finish.
    """

    job_id = models.UUIDField()
    needs_id = models.UUIDField()  # the job, or ``store.rules.pause_of()``

    class Meta:
        verbose_name = _("dependency")
        verbose_name_plural = _("dependencies")
        indexes: ClassVar = [
            models.Index(fields=["needs_id"], name="aftercommit_dependency_needs"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["job_id", "needs_id"], name="aftercommit_dependency_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.job_id} needs {self.needs_id}"
