"""A row of the table is data: no byte of it is unpickled, imported or evaluated in the relay."""

import json
import os
import subprocess
import sys

import pytest

from tests.databases import name_of_this_run, remove_sqlite_files

LIBRARIES = ("celery", "django_q", "dramatiq", "huey", "rq", "tasks")


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """Return what a tripwire has noticed while hostile rows were published."""
    name = f"{name_of_this_run()}_h"
    mark = tmp_path_factory.mktemp("hostile") / "mark"
    environment = {**os.environ, "AFTERCOMMIT_DB": "sqlite", "AFTERCOMMIT_DB_NAME": name}
    command = [sys.executable, "-m", "tests.brokers.hostile", str(mark)]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=240, check=False
        )
    finally:
        remove_sqlite_files(name)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_nothing_of_a_row_is_unpickled_imported_or_evaluated(redis, seen):
    assert seen["noticed"] == []
    assert not seen["mark"]


@pytest.mark.parametrize("library", LIBRARIES)
def test_hostile_rows_reach_each_library(library, redis, seen):
    """Else the tripwire has nothing to notice."""
    assert seen["taken"][library] > 10
    assert seen["refused"][library] > 5


def test_the_tripwire_notices_what_a_consumer_does(redis, seen):
    """What was published is still what would run there."""
    assert "pickle.find_class" in seen["control"]
