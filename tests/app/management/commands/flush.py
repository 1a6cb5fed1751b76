"""What Django calls after each test that commits.

Its own ``flush`` truncates tables, and creates the permissions of all models again; this took
half of the time of tests/worker. Of two commands of one name Django takes the app's.
"""

from typing import Any

from django.core.management.base import BaseCommand

from tests.tables import wipe


class Command(BaseCommand):
    """Remove the rows of a test database."""

    help = "Remove the rows of a test database."
    stealth_options = (
        "interactive",
        "database",
        "reset_sequences",
        "allow_cascade",
        "inhibit_post_migrate",
    )

    def handle(self, *, database: str = "default", **_: Any) -> None:
        """Delete; nobody is asked."""
        wipe(database)
