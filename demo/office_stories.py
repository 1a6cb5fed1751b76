"""What the back office promises, played by a visitor."""

from processes import Demo, wait_until
from stories import LONG, Observation, compare
from visitor import Visitor

LINES = 200
ROWS = 1000


def importing_a_file(demo: Demo) -> list[Observation]:
    """Import the sample twice; the worker is killed in the middle of the second import."""
    with Visitor(demo.origin) as visitor:
        first = _imported(demo, visitor, kill=False)
        second = _imported(demo, visitor, kill=True)
    expected = f"{LINES - 1} articles, 1 lines refused"
    return [
        compare("Import", "a file of 200 lines", expected=expected, observed=first),
        compare("Import", "the same, and a kill -9", expected=expected, observed=second),
    ]


def _imported(demo: Demo, visitor: Visitor, *, kill: bool) -> str:
    before = {row["key"] for row in visitor.rows("office", "imports")}
    visitor.start_import()

    def row() -> dict[str, str]:
        rows = visitor.rows("office", "imports")
        return next(one for one in rows if one["key"] not in before)

    wait_until(lambda: float(row()["done"]) > 0, why="the bar has moved", within=LONG)
    if kill:
        demo.worker.kill()
        demo.start_worker()
    wait_until(lambda: row()["state"] == "succeeded", why="the import has ended", within=LONG)
    return row()["said"]


def running_the_report(demo: Demo) -> list[Observation]:
    """Wait until a worker knows the nightly report, and run it now."""
    with Visitor(demo.origin) as visitor:

        def next_run() -> str:
            return visitor.text("office", "next_run")

        wait_until(lambda: next_run().startswith("Next"), why="the report has a next run")
        before, due = len(visitor.rows("office", "reports")), next_run()
        visitor.run_report()
        wait_until(
            lambda: len(visitor.rows("office", "reports")) > before,
            why="the report is there",
            within=LONG,
        )
        after = next_run()
    return [
        compare("Report", "run now: its next moment stays", expected=due, observed=after),
    ]


def sending_messages(demo: Demo) -> list[Observation]:
    """Send more messages than the provider takes in a time."""
    with Visitor(demo.origin) as visitor:
        visitor.send_messages()

        def rows() -> list[dict[str, str]]:
            return visitor.rows("office", "accounts")

        wait_until(
            lambda: all(row["state"] == "succeeded" for row in rows()),
            why="all messages are sent",
            within=LONG,
        )
        found = rows()
    return [
        *(
            compare(
                "Provider",
                f"messages of the account {row['account']}",
                expected="12 of 12 sent, 0 twice",
                observed=row["said"],
            )
            for row in found
        ),
        *(
            Observation(
                story="Provider",
                what=f"answers 429 for the account {row['account']}",
                expected="2 to 12",
                observed=row["refused"],
                held=2 <= int(row["refused"]) <= 12,
            )
            for row in found
        ),
    ]


def racing(demo: Demo) -> list[Observation]:
    """Write the same rows by a job for each and by batches."""
    with Visitor(demo.origin) as visitor:
        visitor.start_race()

        def rows() -> list[dict[str, str]]:
            return visitor.rows("office", "races")

        wait_until(
            lambda: all(row["state"] == "succeeded" for row in rows()),
            why="all rows are written",
            within=LONG,
        )
        found = rows()
    expected = f"{ROWS:,} of {ROWS:,} rows"
    return [
        compare("Batches", f"rows {row['way']}", expected=expected, observed=row["said"])
        for row in found
    ]
