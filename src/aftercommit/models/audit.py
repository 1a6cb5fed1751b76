"""What people have done in the dashboard."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from aftercommit.models.portable import Count, JSONOrText, Name
from aftercommit.models.readable import Moment


class AuditRecord(models.Model):
    """One action of one person; it stays when what it was about is gone."""

    at = Moment()
    user_id = models.CharField(max_length=255, default="", blank=True)  # primary key, as text
    by = models.CharField(max_length=255, default="", blank=True)  # the user's name at that time
    action = Name(max_length=50)
    subject = models.CharField(max_length=255, default="", blank=True)  # id or name; empty: many
    details = JSONOrText(default=dict, blank=True)  # the filter, the limit, why ...
    found = Count(default=0)  # jobs that were chosen
    changed = Count(default=0)  # of those

    class Meta:
        verbose_name = _("audit record")
        verbose_name_plural = _("audit records")
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"{self.by} {self.action} {self.subject}".rstrip()
