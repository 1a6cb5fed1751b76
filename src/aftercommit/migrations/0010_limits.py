"""The lines of jobs that wait for a slot of a concurrency limit.

The column is added without a rewrite of the table, the index while jobs go on.
"""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from aftercommit.migrations._online import AddColumnOnline, AddIndexOnline, OneWay
from aftercommit.models import PartialIndex


class Migration(OneWay):
    atomic = False  # as CREATE INDEX CONCURRENTLY demands

    dependencies: ClassVar = [("aftercommit", "0009_awaited")]

    operations: ClassVar = [
        AddColumnOnline("Job", "blocked", models.SmallIntegerField(null=True)),
        AddIndexOnline(
            "Job",
            PartialIndex(
                condition=Q(blocked__isnull=False),
                fields=["blocked", "limit_key", "priority", "run_after", "id"],
                name="aftercommit_job_limited",
            ),
        ),
    ]
