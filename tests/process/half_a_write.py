"""A process to be killed in a write: most of a large transaction is in the ``-wal`` by then."""

import django

ROWS = 600
KEY = "half a write"


def main() -> None:
    """Write, and do not commit."""
    django.setup()
    from django.db import connection, transaction  # noqa: PLC0415

    from tests.app.models import Effect  # noqa: PLC0415
    from tests.app.notes import note, pass_gate  # noqa: PLC0415

    with connection.cursor() as cursor:
        cursor.execute("PRAGMA cache_size = 10")  # pages, so that they are written early
    with transaction.atomic():
        Effect.objects.bulk_create(Effect(key=KEY) for _number in range(ROWS))
        note("writing")
        pass_gate("never")


if __name__ == "__main__":
    main()
