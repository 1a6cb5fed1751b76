"""The table of findings, for ``AFTERCOMMIT_GUARD = {"store": True}``: a row for each place."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class StoredFinding(models.Model):
    """A place that has sent something inside a transaction, and how often."""

    # Of rule, adapter, subject, file and line: by it processes count the same place together.
    key = models.CharField(_("key"), max_length=64, unique=True)
    rule = models.CharField(_("rule"), max_length=10)
    adapter = models.CharField(_("adapter"), max_length=40)
    subject = models.CharField(_("subject"), max_length=300)
    path = models.CharField(_("file"), max_length=500)
    line = models.PositiveIntegerField(_("line"))
    function = models.CharField(_("function"), max_length=300)
    report = models.TextField(_("report"))  # of the first time
    count = models.BigIntegerField(_("how often"), default=0)
    first_seen = models.DateTimeField(_("first seen"))
    last_seen = models.DateTimeField(_("last seen"))

    class Meta:
        """The most frequent first."""

        db_table = "aftercommit_guard_finding"
        ordering = ("-count", "path", "line")
        verbose_name = _("dispatch inside a transaction")
        verbose_name_plural = _("dispatches inside transactions")

    def __str__(self) -> str:
        """Return the place and the rule."""
        return f"{self.path}:{self.line} {self.rule} {self.subject}"
