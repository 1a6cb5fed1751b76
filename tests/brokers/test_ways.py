"""The page lists the ways to send a message that are tested, and no others."""

import pytest

from tests.brokers import (
    test_celery,
    test_django_q,
    test_dramatiq,
    test_huey,
    test_rq,
    test_tasks,
)
from tests.docs import pages

PAGE = pages.ROOT / "docs" / "how-to" / "relay.md"
TESTED = {
    "Celery": test_celery,
    "RQ": test_rq,
    "Dramatiq": test_dramatiq,
    "Huey": test_huey,
    "django-q2": test_django_q,
    "other `django.tasks` backends": test_tasks,
}


@pytest.mark.parametrize("library", TESTED)
def test_each_tested_way_is_listed(library):
    rows = {row[0]: row[1] for row in pages.tables(PAGE, "## What is kept")}

    assert rows[library] == ", ".join(f"`{way}`" for way in TESTED[library].WAYS)
