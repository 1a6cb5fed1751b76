"""The savepoint of a job in company: what the body says and how it ends concerns nobody else."""

import pytest
from django.db import Error, connection, transaction
from django.test.utils import CaptureQueriesContext

from tests.app.models import Account, Effect
from tests.worker.rig import commits, effects, sql

pytestmark = commits
on_postgresql = pytest.mark.skipif("connection.vendor != 'postgresql'")
WRONG = "SELECT )"
ROWS = [(1, "one"), (2, "two")]


def read():
    """Read rows."""
    assert sql("SELECT 1, 'one' UNION SELECT 2, 'two' ORDER BY 1") == ROWS


def read_with_percent():
    """Read with what looks like a placeholder."""
    assert sql("SELECT '%s'") == [("%s",)]


def write():
    """Look at how many rows were written."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO app_account (balance) VALUES (%s), (%s)", [1, 2])
        assert cursor.rowcount == 2


def write_many():
    """Send one statement again and again."""
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO app_account (balance) VALUES (%s)", [[1], [2]])


def iterate():
    """Use a cursor of the server, where there are such."""
    assert list(Effect.objects.order_by("id").values_list("key").iterator(chunk_size=1))


def nest():
    """Take something back, and go on."""
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        sql("INSERT INTO app_account (balance) VALUES (3)")
        raise ZeroDivisionError


def swallow():
    """Go on after an error that has been taken back."""
    with pytest.raises(Error), transaction.atomic():
        sql(WRONG)


def compose():
    """Use the driver's own way to put a statement together."""
    from psycopg import sql as composing  # noqa: PLC0415 - not on other databases

    statement = composing.SQL("SELECT {}, %s").format(composing.Literal(1))
    assert sql(statement, "one") == ROWS[:1]


FIRST = [read, read_with_percent, write, write_many, nest, swallow]


@pytest.mark.parametrize("first", [*FIRST, pytest.param(compose, marks=on_postgresql)])
@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
def test_the_first_statement_may_be_any(rig, together, first, fails):
    def body():
        if fails:
            raise ValueError

    together.add("a")
    together.add("b", body, first=first, max_attempts=2)
    together.add("c")
    together.run()

    assert together.calls == ["a", "b", "c"]  # each once
    assert together.states() == {"a": "succeeded", "b": "ready" if fails else "succeeded"} | {
        "c": "succeeded"
    }
    assert [effects(name) for name in "abc"] == [1, int(not fails), 1]
    written = first in (write, write_many) and not fails
    assert Account.objects.count() == (2 if written else 0)


def test_a_cursor_of_the_server_is_used_in_a_transaction_of_its_own(rig, together, vendor):
    together.add("a")
    together.add("b", first=iterate)
    together.add("c")
    together.run()

    repeated = ["a", "b"] * (vendor == "postgresql")  # what was rolled back with it
    assert together.calls == [*repeated, "a", "b", "c"]
    assert set(together.states().values()) == {"succeeded"}
    assert [effects(name) for name in "abc"] == [1, 1, 1]


def test_each_has_one_and_the_first_is_released_for_all(rig, together, monkeypatch):
    number_of_calls = []
    kind = type(rig.store.savepoint("any"))
    real = kind._set

    def count(savepoint):
        number_of_calls.append(len(together.calls))
        real(savepoint)

    monkeypatch.setattr(kind, "_set", count)
    for name in "ab":
        together.add(name)
    together.add("c", first=fail, max_attempts=2)
    with CaptureQueriesContext(connection) as said:
        together.run()

    assert number_of_calls == [0, 1, 2]  # each before its body
    verbs = [one["sql"].split()[0] for one in said if "aftercommit_" in one["sql"]]
    by_driver = connection.vendor == "postgresql"  # where the log does not see it
    assert (verbs.count("RELEASE"), verbs.count("ROLLBACK")) == (int(not by_driver), 1)


def fail():
    """Raise before anything was said."""
    raise ValueError


def fail_past_django():
    """Write by the driver's own means, and raise."""
    statement = "COPY app_account (balance) FROM STDIN"
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write("1\n")
    raise ValueError


@pytest.mark.parametrize(
    "first",
    [fail, pytest.param(fail_past_django, marks=on_postgresql), lambda: sql(WRONG)],
)
def test_it_covers_what_is_first_whatever_that_is(rig, together, first):
    together.add("a")
    together.add("b", first=first, max_attempts=2)
    together.add("c")
    together.run()

    assert together.calls == ["a", "b", "c"]  # each once
    assert together.states() == {"a": "succeeded", "b": "ready", "c": "succeeded"}
    assert [effects(name) for name in "abc"] == [1, 0, 1]
    assert Account.objects.count() == 0


def test_callbacks_of_one_that_has_said_nothing_are_its_own(rig, together):
    called = []
    together.add("a", first=lambda: transaction.on_commit(lambda: called.append("a")))
    together.add("b", first=lambda: transaction.on_commit(fail))
    together.add("c", first=lambda: transaction.on_commit(lambda: called.append("c")))
    together.run()

    assert called == ["a", "c"]
    assert together.states() == dict.fromkeys("abc", "succeeded")
