"""Rows that nobody would write: each ends by itself, and stops no other job."""

import pytest
from django.core.management import call_command
from django.db import connection

from aftercommit.models import Job
from tests.app.models import Effect
from tests.app.tasks import plain_effect

pytestmark = pytest.mark.django_db(transaction=True, databases=["default", "other"])

BIG, SMALL = 2**31 - 1, 2**15 - 1
DEEP = "[" * 100_000 + "]" * 100_000
ODD = {
    "payload": [
        *(
            "",
            "no JSON",
            "null",
            "[]",
            "{}",
            '{"args": 1, "kwargs": {}}',
            '{"args": [], "kwargs": []}',
        ),
        *(
            '{"args": {}, "kwargs": null}',
            '{"args": ["a"], "kwargs": {"key": "b"}}',
            "9" * 5000,
            DEEP,
        ),
        *(
            '{"args": [], "kwargs": {"self": 1}}',
            '{"args": [], "kwargs": {"\\u0000": 1}}',
            "\x1b[31m",
        ),
    ],
    "errors": [
        *("", "no JSON", "null", "{}", "1", '"text"', "[1]", "[null]", "[{}]", DEEP, "9" * 5000),
        *(
            '[{"traceback": 1}]',
            '[{"traceback": "", "exception_class_path": 3, "worker_id": []}]',
        ),
    ],
    "meta": ["null", "[]", "1", '"x"', '{"function": 1}'],
    "max_attempts": [0, BIG],
    "attempts": [BIG],
    "crashes": [BIG],
    "conflicts": [BIG],
    "token": [2**63 - 1, -(2**63), -1],
    "priority": [SMALL, -SMALL - 1],
    "headers": ["no JSON"],
    "tags": ["no JSON"],
    "result": ["no JSON"],
    "queue": ["", " ", "\n", "%s", "\u202e"],
    "limit_key": ["x"],
    "unique_key": [""],
    "waits_for": [BIG],
}


def write(job_id, **columns):
    """Write a row as somebody with SQL would."""
    names = ", ".join(f"{connection.ops.quote_name(name)} = %s" for name in columns)
    key = job_id if connection.vendor == "postgresql" else str(job_id).replace("-", "")
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE aftercommit_job SET {names} WHERE id = %s", [*columns.values(), key]
        )
        assert cursor.rowcount == 1


@pytest.mark.parametrize("column", ODD)
def test_odd_rows_stop_no_other_job(column):
    odd = [plain_effect.using(priority=1).enqueue("odd").id for _ in ODD[column]]
    for job_id, value in zip(odd, ODD[column], strict=True):
        write(job_id, **{column: value})
    plain_effect.enqueue("usual")

    call_command("flush_queue")

    assert Effect.objects.filter(key="usual").count() == 1
    assert not Job.objects.filter(state="running").exists()
