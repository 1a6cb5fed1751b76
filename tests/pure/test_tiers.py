"""The plan: which tests run when, and that none is lost on the way."""

import json
import os
import subprocess
import sys

import pytest

import tests.run
from tests import tiers
from tests.changes import NoHistory
from tests.databases import KINDS
from tests.run import plan_of
from tests.services import Server
from tests.tiers import CHANGE, FULL, PARTS, PURE, QUICK, WATCHING

COLLECT = """
import json, sys, pytest

class Listing:
    def pytest_collection_finish(self, session):
        found = {
            (item.path.relative_to(session.config.rootpath / "tests").as_posix(),
             *sorted({mark.name for mark in item.iter_markers()} & {"mutant", "proof", "long"}))
            for item in session.items
        }
        print("\\n" + json.dumps(sorted(found)))

sys.exit(pytest.main(["--collect-only", "-qq", *sys.argv[1:]], plugins=[Listing()]))
"""
SERVERS = [Server(kind=kind, version="1") for kind in KINDS]


def collect(*options):
    """Return the file and the marks of each test that pytest finds on SQLite."""
    ours = {"AFTERCOMMIT_DB": "sqlite"}
    done = subprocess.run(
        [sys.executable, "-c", COLLECT, *options, f"--rootdir={tests.run.ROOT}"],
        cwd=tests.run.ROOT,
        env={k: v for k, v in os.environ.items() if k != "AFTERCOMMIT_DB_NAME"} | ours,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    line = next(line for line in done.stdout.splitlines() if line.startswith("[["))
    return {(file, tuple(marks)) for file, *marks in json.loads(line)}


@pytest.fixture(scope="module")
def every_test():
    return collect()


def takers(parts, kind, test):
    """Return the parts that run a test on this database."""
    return [part for part in parts if kind in part.kinds and part.takes(*test)]


def test_the_full_tier_runs_every_test_once_on_every_database(every_test):
    for test in every_test:
        runs = [len(takers(PARTS[FULL], kind, test)) for kind in KINDS]
        assert runs == ([1, 0, 0, 0] if PURE.takes(*test) else [1] * len(KINDS)), test


def test_on_each_change_every_test_that_is_watched_or_not_long_runs_somewhere(every_test):
    everywhere = [*PARTS[CHANGE], *WATCHING]

    never = {t for t in every_test if not any(takers(everywhere, kind, t) for kind in KINDS)}

    assert never == {
        (f"{name}.py", ("long",))
        for name in (
            "contract/test_others",
            "demo/test_run",
            "process/test_interrupts",
            "process/test_prometheus",
            "process/test_recycling",
            "worker/test_tenants",
        )
    }


@pytest.mark.parametrize("kind", KINDS)
def test_on_each_change_no_test_runs_twice_on_one_database(every_test, kind):
    everywhere = [*PARTS[CHANGE], *WATCHING]

    assert [t for t in every_test if len(takers(everywhere, kind, t)) > 1] == []


def test_the_rooms_run_on_every_database_in_every_tier(every_test):
    rooms = {
        t for t in every_test if t[0].startswith(("store/", "worker/", "django/")) and not t[1]
    }

    assert len(rooms) > 20
    for tier in PARTS.values():
        assert all(takers(tier, kind, test) for test in rooms for kind in KINDS)


def test_each_database_meets_its_own_faults_on_each_change():
    for kind, file in [
        ("sqlite", "process/test_sqlite_faults.py"),
        ("mariadb", "process/test_mysql_faults.py"),
        ("mysql", "process/test_mysql_faults.py"),
        ("postgres", "process/test_server_faults.py"),
    ]:
        assert takers(PARTS[CHANGE], kind, (file, ()))


def test_pytest_runs_what_the_plan_says():
    files = ("test_command.py", "test_flush_queue.py", "test_sqlite_faults.py")

    assert collect("--part=faults", "tests/process") == {(f"process/{one}", ()) for one in files}


def test_a_file_is_marked_for_its_name(every_test):
    marks = dict(every_test)

    assert marks["store/test_mutants.py"] == marks["torture/test_mutants.py"] == ("mutant",)
    assert marks["brokers/test_proof.py"] == marks["brokers/test_proof_cuts.py"] == ("proof",)


def test_every_part_has_a_name_of_its_own_on_each_database():
    parts = {part for tier in PARTS.values() for part in tier} | set(WATCHING)

    for kind in KINDS:
        names = [part.name for part in parts if kind in part.kinds]
        assert len(names) == len(set(names))


# What a change touches.


def touching(monkeypatch, *files):
    """Let these be the files that have changed."""
    monkeypatch.setattr(tests.run, "changed_files", lambda base: set(files))


def labels(plan):
    return {run.label for run in plan.runs}


@pytest.mark.parametrize(
    ("file", "watched_by"),
    [
        ("src/aftercommit/store/finish.py", {"postgres store mutants"}),
        ("src/aftercommit/models/job.py", {"postgres store mutants"}),
        ("src/aftercommit/worker/alias.py", {"postgres worker mutants"}),
        ("src/aftercommit/store/inbox.py", {"postgres proofs", "postgres store mutants"}),
        ("src/aftercommit/relay/brokers/rq.py", {"postgres proofs"}),
        ("tests/brokers/shop.py", {"postgres proofs"}),
        ("demo/run.py", {"sqlite demo"}),
        ("README.md", set()),
    ],
)
def test_what_a_change_touches_is_watched(file, watched_by, monkeypatch):
    touching(monkeypatch)
    always = labels(plan_of(CHANGE, SERVERS, asked=False))

    touching(monkeypatch, file)

    assert labels(plan_of(CHANGE, SERVERS, asked=False)) - always == watched_by


def test_a_change_to_everything_adds_one_database_for_each_part_that_watches(monkeypatch):
    touching(monkeypatch, *(place for part in WATCHING for place in part.watches))

    plan = plan_of(CHANGE, SERVERS, asked=False)

    added = [run for run in plan.runs if run.part in WATCHING]
    assert len(added) == len(WATCHING)


def test_without_history_nothing_more_is_run_and_that_is_said(monkeypatch):
    def unknown(base):
        raise NoHistory("the clone is shallow")

    monkeypatch.setattr(tests.run, "changed_files", unknown)

    plan = plan_of(CHANGE, SERVERS, asked=False)

    assert not {run.part for run in plan.runs} & set(WATCHING)
    assert "What watches a change is not run: the clone is shallow." in plan.remarks


def test_what_a_tier_leaves_out_is_said(monkeypatch):
    touching(monkeypatch)

    said = "\n".join(plan_of(CHANGE, SERVERS, asked=False).remarks)

    assert "make test-full" in said
    assert "torture: 1 of 4 files on sqlite, postgres, mariadb, mysql" in said
    assert "store: 1 of " in said
    assert plan_of(FULL, SERVERS, asked=False).remarks == ()


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        (["--durations=10", "-x", "-p", "no:cacheprovider"], False),
        (["tests/store"], True),
        (["tests/pure/test_run.py::test_x", "-q"], True),
        (["-k", "claim"], True),
        (["-m", "mutant"], True),
    ],
)
def test_who_asks_for_tests_gets_them_on_every_database(options, asked, monkeypatch):
    touching(monkeypatch, "src/aftercommit/store/finish.py")
    assert tests.run._names_tests(options) is asked

    if asked:
        runs = labels(plan_of(QUICK, SERVERS, asked=asked))
        assert runs == {"pure", *(f"{kind} all" for kind in KINDS)}


def test_only_the_databases_that_are_there_are_used(monkeypatch):
    touching(monkeypatch, "src/aftercommit/worker/alias.py")

    plan = plan_of(CHANGE, [Server(kind="mariadb", version="11")], asked=False)

    assert labels(plan) == {"mariadb rooms", "mariadb faults", "pure"}


@pytest.mark.parametrize(("tier", "kills"), [(None, 40), (FULL, 40), (CHANGE, 12), (QUICK, 12)])
def test_a_storm_takes_its_size_from_the_tier(tier, kills, monkeypatch):
    monkeypatch.delenv(tiers.VARIABLE, raising=False)
    if tier:
        monkeypatch.setenv(tiers.VARIABLE, tier)

    assert tiers.size(change=12, full=40) == kills
