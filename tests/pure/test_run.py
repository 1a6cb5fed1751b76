"""tests/run.py: what counts as a failure, and what is said aloud."""

import pytest

from tests.run import NO_TESTS, Result, Run, report
from tests.services import Server

ANSWERED = Server(kind="postgres", version="18.4")


def ended(*, passed=0, failures=(), skipped=0, exit_code=0):
    return Result(
        run=Run(label="postgres", part="database", server=ANSWERED),
        exit_code=exit_code,
        passed=passed,
        failures=failures,
        skipped=skipped,
        seconds=1.5,
    )


def test_the_total_stands_alone_on_the_last_line(capsys):
    results = [ended(passed=2), ended(passed=3, skipped=1)]

    assert report(results, {}, required=()) == 0
    last_line = capsys.readouterr().out.splitlines()[-1]
    assert last_line == "total: 5 passed, 0 failed, 1 skipped"


def test_one_failed_run_fails_all_and_its_tests_are_named_at_the_end(capsys):
    results = [ended(passed=2), ended(passed=3, failures=("test_x::y",), exit_code=1)]

    assert report(results, {}, required=()) == 1
    assert "FAILED: postgres test_x::y" in capsys.readouterr().out.splitlines()[-2]


@pytest.mark.parametrize(
    ("required", "word", "exit_code"),
    [((), "SKIPPED", 0), (("mysql",), "MISSING", 1)],
)
def test_a_missing_database_fails_only_who_requires_it(required, word, exit_code, capsys):
    missing = {"mysql": "no server answered"}

    assert report([ended(passed=1)], missing, required=required) == exit_code
    assert f"{word}: mysql (no server answered)" in capsys.readouterr().out


def test_a_selection_without_tests_on_one_database_is_no_failure():
    results = [ended(passed=2), ended(exit_code=NO_TESTS)]

    assert report(results, {}, required=()) == 0


def test_a_selection_without_any_test_is_not_passed_off_as_success():
    assert report([ended(exit_code=NO_TESTS)], {}, required=()) == NO_TESTS
