"""tests/run.py: what counts as a failure, and what is said aloud."""

import sys

import pytest

import tests.run
from tests import tiers
from tests.results import NO_TESTS, Result, Run, places, report
from tests.run import FAILURES, MOST_UNSTEADY, run_pytest
from tests.services import Server

ANSWERED = Server(kind="postgres", version="18.4")


RUN = Run(part=tiers.ALL, server=ANSWERED)
CONFTEST = 'def pytest_addoption(parser): parser.addoption("--part")'
FAILS_ONCE = """
import pathlib, pytest

@pytest.mark.parametrize("number", range({times}))
def test_it(number, been=pathlib.Path(__file__)):
    been = been.with_name(f"been{{number}}")
    first = not been.exists()
    been.touch()
    assert not first, "the first time"
"""


def ended(*, passed=0, failures=(), unsteady=(), skipped=0, exit_code=0, places=None):
    return Result(
        run=RUN,
        exit_code=exit_code,
        passed=passed,
        failures=failures,
        unsteady=unsteady,
        skipped=skipped,
        seconds=1.5,
        places=places or {},
    )


def test_the_total_stands_alone_on_the_last_line(capsys):
    results = [ended(passed=2), ended(passed=3, skipped=1)]

    assert report(results, {}, required=()) == 0
    last_line = capsys.readouterr().out.splitlines()[-1]
    assert last_line == "total: 5 passed, 0 failed, 1 skipped"


def test_one_failed_run_fails_all_and_its_tests_are_named_at_the_end(capsys):
    results = [ended(passed=2), ended(passed=3, failures=("test_x::y",), exit_code=1)]

    assert report(results, {}, required=()) == 1
    assert "FAILED: postgres all test_x::y" in capsys.readouterr().out.splitlines()[-2]


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


def run_in(folder, monkeypatch, *, part="process", times=1):
    """Run tests that fail the first time only, in a project of their own."""
    for package in (folder / "tests", folder / "tests" / part):
        package.mkdir()
        package.joinpath("__init__.py").touch()
    folder.joinpath("conftest.py").write_text(CONFTEST)
    package.joinpath("test_it.py").write_text(FAILS_ONCE.format(times=times))
    monkeypatch.setattr(tests.run, "ROOT", folder)
    return run_pytest(RUN, [sys.executable, "-m", "pytest", "-p", "no:django"])


def test_a_fault_test_that_fails_once_is_called_unsteady(tmp_path, monkeypatch, capsys):
    result = run_in(tmp_path, monkeypatch)

    assert (result.exit_code, result.passed, result.failures) == (0, 1, ())
    assert report([result], {}, required=()) == 0
    unsteady = capsys.readouterr().out.splitlines()[-2]
    assert unsteady.startswith("UNSTEADY: postgres all tests.process.test_it::test_it[0]: ")
    assert "the first time" in unsteady


@pytest.mark.parametrize(
    "project", [{"times": MOST_UNSTEADY + 1}, {"part": "store"}], ids=["many", "no processes"]
)
def test_a_failure_stays_one_that_no_machine_explains(project, tmp_path, monkeypatch):
    result = run_in(tmp_path, monkeypatch, **project)

    assert (result.exit_code, result.failed) == (FAILURES, project.get("times", 1))


def test_what_fails_twice_has_failed(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "FAILS_ONCE", "def test_it(): raise ValueError")

    result = run_in(tmp_path, monkeypatch)

    assert (result.exit_code, result.unsteady) == (FAILURES, ())
    assert "ValueError" in result.failures[0]


def test_a_broker_may_be_required_as_a_database_may(monkeypatch):
    options, _ = tests.run._parser().parse_known_args(["--require=postgres,redis"])
    assert options.require == ("postgres", "redis")

    monkeypatch.setenv("AFTERCOMMIT_REDIS_URL", "redis://127.0.0.1:1/0")
    assert "redis" in tests.run.missing_brokers()


JUNIT = """<testsuites><testsuite>
<testcase classname="tests.store.test_claim" name="a" time="4.5" />
<testcase classname="tests.store.test_finish.Deep" name="b" time="2" />
<testcase classname="tests.test_docs" name="c" time="1" />
<testcase classname="" name="tests.store.test_x" time="0.0"><error message="no" /></testcase>
</testsuite></testsuites>"""


def test_the_report_tells_where_the_time_goes(tmp_path, capsys):
    junit = tmp_path / "junit.xml"
    junit.write_text(JUNIT)

    found = places(junit)

    assert found == {"store": 6.5, "tests": 1.0}
    report([ended(passed=3, places=found)], {}, required=())
    assert "     6.5 s  store (postgres all)" in capsys.readouterr().out


def test_what_was_not_run_is_said_at_the_end(capsys):
    report([ended(passed=1)], {}, required=(), remarks=["not everything"])

    assert "not everything" in capsys.readouterr().out.splitlines()[-2]
