"""A body that ends the transaction and begins another, past Django and past its text.

The transaction itself notices it: a savepoint that was set before the body is gone.
"""

import contextlib

import pytest
from django.db import connection

from aftercommit.models import State
from aftercommit.worker.running.atomic import shared
from tests.app.models import Effect
from tests.worker.rig import commits, effects, leave, sql

pytestmark = commits
BROKEN = "aftercommit.errors.TransactionBroken"


def driver():
    """Return what Django wraps, of which it does not see the statements."""
    return connection.connection


def tell_driver(*statements):
    """Send statements that no wrapper sees."""
    cursor = driver().cursor()
    for statement in statements:
        cursor.execute(statement)
    cursor.close()


def roll_back_by_driver():
    """End it; the next statement begins another transaction, or is one."""
    driver().rollback()


def roll_back_and_begin():
    """Leave the connection in a transaction, as it was."""
    tell_driver("ROLLBACK", "BEGIN")


def roll_back_and_set_savepoints():
    """Set all the savepoints again whose names can be guessed."""
    names = [f"SAVEPOINT aftercommit_{number}" for number in range(5)]
    tell_driver("ROLLBACK", "BEGIN", *names)


def roll_back_in_company_of_a_select():
    """Send several statements as one text, which begins harmlessly."""
    sql("SELECT 1; ROLLBACK; BEGIN")


def commit_in_company_of_a_select():
    """Commit in the middle of a text."""
    sql("SELECT 1; COMMIT; BEGIN")


def commit_by_driver():
    """Commit without a statement."""
    driver().commit()


def commit_and_begin():
    """Leave the connection in a transaction, as it was."""
    tell_driver("COMMIT", "BEGIN")


def toggle_autocommit():
    """Switch it on, which commits, and off again."""
    driver().autocommit(True)
    driver().autocommit(False)


def begin_again():
    """Begin, which commits what there was."""
    driver().begin()


def create_a_table():
    """Let the server commit by itself."""
    tell_driver("CREATE TABLE tests_ddl (id INTEGER)", "DROP TABLE tests_ddl")


def call_a_procedure():
    """Let a procedure commit."""
    tell_driver("CALL tests_commits()")


def run_a_script():
    """Use SQLite's method that commits before its first statement."""
    with connection.cursor() as cursor:
        cursor.executescript("SELECT 1; BEGIN IMMEDIATE;")


ROLLBACKS = {
    "postgresql": [
        roll_back_by_driver,
        roll_back_and_begin,
        roll_back_and_set_savepoints,
        roll_back_in_company_of_a_select,
    ],
    "mysql": [roll_back_by_driver, roll_back_and_begin, roll_back_and_set_savepoints],
    "sqlite": [roll_back_by_driver, roll_back_and_begin, roll_back_and_set_savepoints],
}
COMMITS = {
    "postgresql": [commit_by_driver, commit_and_begin, commit_in_company_of_a_select],
    "mysql": [
        commit_by_driver,
        commit_and_begin,
        toggle_autocommit,
        begin_again,
        create_a_table,
        call_a_procedure,
    ],
    "sqlite": [commit_by_driver, commit_and_begin, run_a_script],
}
ROLLBACKS, COMMITS = ROLLBACKS[connection.vendor], COMMITS[connection.vendor]


@pytest.fixture(autouse=True)
def procedure(transactional_db):
    """Create the procedure, where there are procedures that may commit here."""
    if connection.vendor != "mysql":
        yield
        return
    sql("CREATE PROCEDURE tests_commits() COMMIT")
    yield
    sql("DROP PROCEDURE tests_commits")


def assert_told(job):
    """Failed at once, for the right reason."""
    assert (job.state, job.attempts) == (State.FAILED, 1)
    assert job.error_list[0]["exception_class_path"] == BROKEN


@pytest.mark.parametrize("end", ROLLBACKS + COMMITS)
def test_alone_it_is_no_success(rig, end):
    def body(context):
        leave("before")
        end()
        leave("after")

    assert_told(rig.run(body, atomic=True, max_attempts=5))
    assert effects("before") == (end in COMMITS)
    assert rig.run(lambda context: "the next job is not harmed", atomic=True).return_value


@pytest.mark.parametrize("end", ROLLBACKS + COMMITS)
def test_in_context_commit_it_is_no_success(rig, end):
    def body(context):
        with context.commit():
            leave("before")
            end()

    assert_told(rig.run(body, max_attempts=5))
    assert effects("before") == (end in COMMITS)


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("end", ROLLBACKS)
def test_nobody_else_loses_effects_by_a_rollback(rig, together, end, place):
    add_three(together, end, place)
    together.run()

    others = assert_only_the_culprit_failed(rig, together, place)
    assert [effects(name) for name in others] == [1, 1]


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("end", COMMITS)
def test_nobody_else_loses_effects_by_a_commit(rig, together, end, place):
    """What had run before may run twice: nobody can tell whether it was committed."""
    add_three(together, end, place)
    together.run()

    others = assert_only_the_culprit_failed(rig, together, place)
    assert all(effects(name) >= 1 for name in others)


@pytest.mark.parametrize("end", ROLLBACKS + COMMITS)
def test_an_error_afterwards_hides_nothing(rig, together, end):
    def body():
        end()
        raise ZeroDivisionError

    together.add("a")
    claim = together.add("b", body, max_attempts=5)
    together.run()

    assert together.states()["a"] == "succeeded"
    assert effects("a") >= 1
    assert_told(rig.job(claim.job_id))


def add_three(together, end, place):
    """Add three jobs, of which one ends the transaction between two effects."""
    for name, where in zip("abc", ["first", "middle", "last"], strict=True):
        if where == place:
            together.add(name, first=hidden(end), max_attempts=5)
        else:
            together.add(name, max_attempts=1)


def hidden(end):
    """Return what a body does before its effect."""

    def first():
        Effect.objects.exists()
        end()

    return first


def assert_only_the_culprit_failed(rig, together, place):
    """See whom it was put down to; return the names of the others."""
    culprit = dict(zip(["first", "middle", "last"], "abc", strict=True))[place]
    for name, run in together.runs.items():
        job = rig.job(run.claim.job_id)
        if name == culprit:
            assert_told(job)
            assert not rig.shared.accepts(run)  # and so never again
        else:
            assert (job.state, job.attempts, job.crashes) == (State.SUCCEEDED, 1, 0)
            assert (job.conflicts, job.error_list) == (0, [])
    return together.runs.keys() - {culprit}


# ---- savepoints of others -------------------------------------------------------------------

OTHERS = [
    "ROLLBACK TO SAVEPOINT aftercommit_2",
    "RELEASE SAVEPOINT aftercommit_2",
    "ROLLBACK TO SAVEPOINT mine",
    "ROLLBACK TO mine",
    "RELEASE SAVEPOINT mine",
]


@pytest.mark.parametrize("statement", OTHERS)
@pytest.mark.parametrize("swallows", [False, True])
def test_a_savepoint_of_another_job_is_out_of_reach(rig, together, statement, swallows):
    """It would take back the effects of a job that has returned."""

    def reach_out():
        with contextlib.suppress(Exception) if swallows else contextlib.nullcontext():
            sql(statement)

    together.add("a")
    together.add("b", first=lambda: sql("SAVEPOINT mine"))
    together.add("c", first=reach_out, max_attempts=1)
    together.add("d")
    together.run()

    assert together.calls.count("c") == 2  # the second time alone
    ends = {"a": "succeeded", "b": "succeeded", "c": "failed", "d": "succeeded"}
    assert together.states() == ends
    assert [effects(name) for name in "abcd"] == [1, 1, 0, 1]
    assert not rig.shared.accepts(together.runs["c"])


def test_a_company_asks_once_whether_its_transaction_is_the_one_it_has_begun(
    rig, together, monkeypatch
):
    kind = type(rig.store.savepoint("any"))
    released = []
    monkeypatch.setattr(kind, "release", lambda savepoint: released.append(savepoint._name))
    for name in "abc":
        together.add(name)
    together.run()

    assert released == [shared.FIRST_SAVEPOINT]
