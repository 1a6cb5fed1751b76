"""Rows that refer to jobs by foreign keys, of models that this process may not know."""

import json
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db import IntegrityError

KEYS = """
SELECT child.name, foreign_key."from"
FROM sqlite_master AS child JOIN pragma_foreign_key_list(child.name) AS foreign_key
WHERE child.type = 'table' AND lower(foreign_key."table") = 'aftercommit_job'
"""
REFERS = "SELECT 1 FROM {0} WHERE {1} IN (SELECT value FROM json_each(%s)) LIMIT 1"


def check_no_row_refers_to(connection: Any, deleted: Sequence[UUID]) -> None:
    """Raise what COMMIT would raise otherwise: SQLite cannot be told to check at once."""
    ids = json.dumps([job_id.hex for job_id in deleted])
    with connection.cursor() as cursor:
        cursor.execute(KEYS)
        for names in cursor.fetchall():
            table, column = map(connection.ops.quote_name, names)
            cursor.execute(REFERS.format(table, column), [ids])
            if cursor.fetchone():
                raise IntegrityError(f"{table}.{column} refers to a job that was deleted.")
