"""What the text of a statement tells, and what is asked of cursors past Django."""

import pytest

from aftercommit.worker.running.raw_cursors import noting
from aftercommit.worker.running.statements import changes_session, may_leave_transaction

MANY = 1_000


@pytest.mark.parametrize("comment", ["/* a */ ", "/**/", "-- a\n", "( ", "/* a\n * b */\n"])
@pytest.mark.parametrize(
    ("verb", "changes", "leaves"),
    [("SELECT 1", False, False), ("SET x = 1", True, False), ("COMMIT", False, True)],
)
def test_a_header_of_many_comments_is_read_once(comment, verb, changes, leaves):
    sql = comment * MANY + verb

    assert changes_session(sql, {}) is changes
    assert may_leave_transaction(sql, {}) is leaves


def test_a_comment_that_does_not_end_hides_no_verb_of_another():
    assert not changes_session("/* SET x = 1", {})
    assert changes_session("/*!50000 SET x = 1 */", {})


class Cursor:
    def execute(self, query, params=None, **more):
        return "executed", query, params, more

    def callproc(self, procname, args=()):
        return "called", procname, args


@pytest.fixture
def noted():
    return []


@pytest.fixture
def cursor(noted):
    return noting(Cursor, lambda statement, cursor: noted.append(statement))()


def test_a_statement_may_be_given_by_its_name(cursor, noted):
    assert cursor.execute("SELECT 1", [1]) == ("executed", "SELECT 1", [1], {})
    assert cursor.execute(query="SELECT 2", binary=True) == (
        *("executed", "SELECT 2", None),
        {"binary": True},
    )
    assert cursor.callproc(procname="reset") == ("called", "reset", ())
    assert noted == ["SELECT 1", "SELECT 2", "CALL reset"]


def test_a_call_without_a_statement_is_refused_by_the_driver(cursor, noted):
    with pytest.raises(TypeError, match="query"):
        cursor.execute()
    assert noted == []
