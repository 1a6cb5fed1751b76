"""Leases: which claimed jobs a worker holds, and for how long."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from aftercommit.models.readable import Identity, Moment


class Lease(models.Model):
    """The jobs of one claim, which a worker holds until ``lease_until``.

    A claim of many jobs writes one row, and a renewal changes one. It is deleted when none of
    its jobs is running under it any more. ``jobs`` is a JSON object: the ids of the jobs, as
    32 or 36 characters, with their tokens. The fence is the job's token, not this row.
    """

    id = Identity(primary_key=True, editable=False)
    worker_id = Identity()
    lease_until = Moment()
    jobs = models.TextField()

    class Meta:
        verbose_name = _("lease")
        verbose_name_plural = _("leases")

    def __str__(self) -> str:
        return str(self.id)
