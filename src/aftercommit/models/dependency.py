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
    # What becomes of the job that waits if the other one does not succeed; NULL: of a pause.
    on_failure = models.CharField(max_length=6, null=True)  # noqa: DJ001
    outcome = models.CharField(max_length=9, null=True)  # noqa: DJ001 - the state it ended in
    # Where its result goes in the arguments: a JSON list of paths; NULL: it is no argument.
    place = models.TextField(null=True)  # noqa: DJ001
    result = models.TextField(null=True)  # noqa: DJ001 - its result, until it is put there

    class Meta:
        verbose_name = _("dependency")
        verbose_name_plural = _("dependencies")
        indexes: ClassVar = [
            models.Index(fields=["needs_id"], name="aftercommit_dependency_needs"),
            # To find out if anything is left that a job waits for, whatever has ended by then.
            models.Index(fields=["job_id", "outcome"], name="aftercommit_dependency_open"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["job_id", "needs_id"], name="aftercommit_dependency_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.job_id} needs {self.needs_id}"
