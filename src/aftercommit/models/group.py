"""Groups: jobs that have a name, a progress and perhaps a last job together."""

from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _

from aftercommit.ids import new_job_id
from aftercommit.models.portable import Count, JSONOrText, Name
from aftercommit.models.readable import Identity, Moment


class Group(models.Model):
    """Jobs that were enqueued as one.

    Its progress is counted from its jobs. What was pruned is counted here, by the transaction
    that deletes the rows.
    """

    id = Identity(primary_key=True, default=new_job_id, editable=False)
    name = Name(max_length=255, default="", blank=True)  # several groups may have the same
    description = models.TextField(default="", blank=True)
    meta = JSONOrText(default=dict, blank=True)
    final_id = Identity(null=True)  # the job that runs when all others have ended
    created_at = Moment()
    cancelled_at = Moment(null=True)
    emptied_at = Moment(null=True)  # when a worker noticed that no row of its jobs is left
    pruned_succeeded = Count(default=0)
    pruned_failed = Count(default=0)
    pruned_cancelled = Count(default=0)

    class Meta:
        verbose_name = _("group")
        verbose_name_plural = _("groups")
        default_permissions = ("view",)
        permissions: ClassVar = [("cancel_group", "Can cancel groups")]
        indexes: ClassVar = [
            models.Index(fields=["name", "created_at"], name="aftercommit_group_name"),
        ]

    def __str__(self) -> str:
        return self.name or str(self.id)


class Member(models.Model):
    """A job of a group; a row of its own, so that jobs without a group have no index for it."""

    job_id = models.UUIDField(primary_key=True)
    group_id = models.UUIDField()

    class Meta:
        verbose_name = _("member of a group")
        verbose_name_plural = _("members of groups")
        default_permissions = ("view",)
        indexes: ClassVar = [
            models.Index(fields=["group_id", "job_id"], name="aftercommit_member_group"),
        ]

    def __str__(self) -> str:
        return f"{self.job_id} in {self.group_id}"
