"""Columns of jobs for rates and fairness.

They are added without a rewrite of the table, the index while jobs go on.
"""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from aftercommit.migrations._online import AddColumnOnline, AddIndexOnline, OneWay
from aftercommit.models import PartialIndex


class Migration(OneWay):
    atomic = False  # as CREATE INDEX CONCURRENTLY demands

    dependencies: ClassVar = [("aftercommit", "0010_limits")]

    operations: ClassVar = [
        AddColumnOnline("Job", "rate_key", models.CharField(max_length=64, null=True)),
        AddColumnOnline("Job", "fair_key", models.CharField(max_length=64, null=True)),
        AddColumnOnline("Job", "line", models.CharField(max_length=64, null=True)),
        AddIndexOnline(
            "Job",
            PartialIndex(
                condition=Q(line__isnull=False),
                fields=["line", "priority", "run_after", "id"],
                name="aftercommit_job_line",
            ),
        ),
    ]
