"""An upgrade that is broken off before any of its changes can be run again."""

from tests.upgrade.tables import RIGHT, Stopped

CHANGES = ("CREATE", "ALTER", "DROP", "INSERT INTO new__", "UPDATE aftercommit_job")


def is_a_change(sql):
    words = sql.lstrip().removeprefix("INSERT INTO django_migrations")
    return words.startswith(CHANGES) or "aftercommit_job\nSET" in sql


def test_broken_off_anywhere_it_can_be_run_again(used, fresh):
    used.migrate()
    whole = used.shape()
    stops = 0
    done = False

    while not done:
        tables = fresh()
        tables.use()
        changes = iter(range(stops + 1))
        with tables.stopped_before(lambda sql: is_a_change(sql) and next(changes) == stops):  # noqa: B023
            try:
                tables.migrate()
                done = True
            except Stopped:
                pass
            except StopIteration:
                raise AssertionError("it went on after it was stopped") from None
        tables.close()
        tables.migrate()
        assert tables.shape() == whole, f"stopped before change {stops}"
        assert tables.flags() == RIGHT
        stops += 1

    assert stops > 8
