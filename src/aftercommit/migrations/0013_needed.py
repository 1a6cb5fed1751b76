"""Whether other jobs wait for a job, and what has become of those that it waits for.

The columns may be NULL: no table is copied.
"""

from typing import ClassVar

from django.db import models

from aftercommit.migrations._online import AddColumnOnline, AddIndexOnline, OneWay


class Migration(OneWay):
    atomic = False  # so that each try to lock a table is short

    dependencies: ClassVar = [("aftercommit", "0012_flow_tables")]

    operations: ClassVar = [
        AddColumnOnline("Job", "needed", models.BooleanField(null=True)),
        # A row for each job that a pause has set aside: perhaps millions.
        AddColumnOnline("Dependency", "on_failure", models.CharField(max_length=6, null=True)),
        AddColumnOnline("Dependency", "outcome", models.CharField(max_length=9, null=True)),
        AddColumnOnline("Dependency", "place", models.TextField(null=True)),
        AddColumnOnline("Dependency", "result", models.TextField(null=True)),
        AddIndexOnline(
            "Dependency",
            models.Index(fields=["job_id", "outcome"], name="aftercommit_dependency_open"),
        ),
    ]
