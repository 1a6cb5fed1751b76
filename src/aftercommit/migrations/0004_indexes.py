"""The indexes of claimable, crashed and unsuccessful jobs.

On PostgreSQL nothing here locks the table: it may take minutes, and jobs go on meanwhile. If it
is broken off, it can be run again.
"""

from typing import ClassVar

from django.db import migrations
from django.db.models import Q

from aftercommit.migrations._flags import set_flags
from aftercommit.migrations._online import AddIndexOnline, OneWay, OnPostgreSQL
from aftercommit.models import PartialIndex


class Migration(OneWay):
    atomic = False  # as CREATE INDEX CONCURRENTLY demands

    dependencies: ClassVar = [("aftercommit", "0003_leases")]

    operations: ClassVar = [
        migrations.RunPython(set_flags, atomic=False),
        OnPostgreSQL(
            "ALTER TABLE aftercommit_job VALIDATE CONSTRAINT aftercommit_job_consistent"
        ),
        AddIndexOnline(
            "Job",
            PartialIndex(
                condition=Q(claimable=True),
                fields=["backend", "queue", "-priority", "run_after", "id"],
                leading=("claimable",),
                name="aftercommit_job_claimable",
            ),
        ),
        AddIndexOnline(
            "Job",
            PartialIndex(
                condition=Q(claimable=True, crashes__gt=0),
                fields=["run_after", "id"],
                leading=("crashes",),  # which a claim does not change
                name="aftercommit_job_crashed",
            ),
        ),
        AddIndexOnline(
            "Job",
            PartialIndex(
                condition=Q(unsuccessful=True),
                fields=["id"],
                leading=("unsuccessful",),
                name="aftercommit_job_unsuccessful",
            ),
        ),
    ]
