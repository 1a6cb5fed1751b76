"""Worker processes that are alive."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from aftercommit.models.readable import Identity, Moment


class WorkerPresence(models.Model):
    """A worker process that serves this database, named after its start, not its host."""

    id = Identity(primary_key=True, editable=False)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    locked = models.BooleanField(default=False)  # holds a session lock named after its id
    started_at = Moment()
    seen_at = Moment(db_index=True)
    pruned = models.BigIntegerField(null=True)  # jobs that it has deleted; NULL: never looked
    pruned_at = Moment(null=True)  # when it last looked for such jobs
    # NULL: a worker of before. Its host's clock, when ``seen_at`` was written by the database's.
    clock = Moment(null=True)
    version = models.CharField(max_length=50, null=True)  # noqa: DJ001 - of this package

    # NULL: a worker of before, or one that runs no jobs by itself.
    threads = models.PositiveIntegerField(null=True)  # jobs that it runs at once
    memory = models.BigIntegerField(null=True)  # bytes that it occupied at ``seen_at``

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")

    def __str__(self) -> str:
        return f"{self.host}:{self.pid}"
