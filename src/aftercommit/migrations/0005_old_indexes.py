"""Without the indexes by state, which the end of a run would have to write.

Workers of version 0.1 look through the whole table for due jobs from here on, on PostgreSQL and
SQLite. Where that takes too long, apply this one when they are gone.
"""

from typing import ClassVar

from aftercommit.migrations._online import OneWay, RemoveIndexOnline


class Migration(OneWay):
    atomic = False  # as DROP INDEX CONCURRENTLY demands

    dependencies: ClassVar = [("aftercommit", "0004_indexes")]

    operations: ClassVar = [
        RemoveIndexOnline("Job", "aftercommit_job_due"),
        RemoveIndexOnline("Job", "aftercommit_job_finished"),
    ]
