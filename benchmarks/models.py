"""The table of rows that jobs write, for ``bulk_create``."""

from django.db import models


class Row(models.Model):
    """One row. The table has no key; Django wants to be told one."""

    number = models.BigIntegerField(primary_key=True)

    class Meta:
        managed = False
        db_table = "bench_row"

    def __str__(self) -> str:
        """Return the number."""
        return str(self.number)
