"""A command that a test starts in a process of its own: it never touches the real databases."""

import json
import os
import subprocess
import sys

import pytest
from django.db import connections

from aftercommit import under_test
from aftercommit.errors import ConfigurationError
from aftercommit.models import Job, State
from aftercommit.under_test import VARIABLE, use_test_databases
from tests.app.tasks import plain_effect
from tests.databases import ALIASES

REAL = "aftercommit_test_not_there"


def command(*words, **environment):
    """Run a command whose settings name other databases than those of this test run."""
    return python("-m", "django", *words, **environment)


def program(*lines, **environment):
    """Run lines of Python in such a process, once Django is set up."""
    code = "\n".join(["import django; django.setup()", *lines])
    return python("-c", code, **environment)


def python(*words, **environment):
    return subprocess.run(
        [sys.executable, *words],
        env=os.environ
        | {"DJANGO_SETTINGS_MODULE": "tests.settings", "AFTERCOMMIT_DB_NAME": REAL}
        | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.django_db(transaction=True, databases=ALIASES)
def test_a_worker_that_a_test_starts_serves_the_databases_of_the_test():
    plain_effect.enqueue("one")

    done = command("aftercommit", "worker", "--drain")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "A test run has started this command" in done.stderr
    assert [job.state for job in Job.objects.all()] == [State.SUCCEEDED]


@pytest.mark.django_db
def test_the_names_are_those_of_this_run():
    told = json.loads(os.environ[VARIABLE])

    assert told == {alias: str(connections[alias].settings_dict["NAME"]) for alias in ALIASES}


def test_without_the_test_run_it_would_look_for_the_real_one(tmp_path):
    done = command("flush_queue", **{VARIABLE: ""})

    assert done.returncode != 0, done.stdout
    assert "A test run" not in done.stderr


def test_a_database_in_memory_is_refused():
    memory = json.dumps({"default": "file:memorydb_default?mode=memory&cache=shared"})

    done = command("flush_queue", **{VARIABLE: memory})

    assert done.returncode == 1
    assert "memory of the test's process" in done.stderr
    assert "nothing was run" in done.stderr


def test_an_alias_that_the_test_run_does_not_have_is_not_touched():
    names = json.loads(os.environ.get(VARIABLE, "{}")) or {"default": "nowhere"}

    done = program(
        "from django.db import connections",
        "from aftercommit.under_test import use_test_databases",
        "print(use_test_databases(), connections['default'].settings_dict['NAME'])",
        "connections['other'].ensure_connection()",
        **{VARIABLE: json.dumps({"default": names["default"]})},
    )

    assert done.stdout.strip() == f"['default'] {names['default']}"
    assert "ImproperlyConfigured" in done.stderr


def test_an_alias_that_only_the_test_run_has_is_left_out():
    names = {"default": "somewhere", "not_in_these_settings": "elsewhere"}

    done = program(
        "from aftercommit.management.subcommands.under_test import say_test_databases",
        "say_test_databases(print)",
        **{VARIABLE: json.dumps(names)},
    )

    assert "(default is somewhere)" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "call",
    [
        "testing.run_jobs()",
        "testing.travel(timedelta(days=1)).__enter__()",
        "testing.assert_effects_once(plain_effect, 'one')",
    ],
)
def test_what_is_for_tests_refuses_where_no_test_run_is_on(call):
    done = program(
        "from datetime import timedelta",
        "from aftercommit import testing",
        "from tests.app.tasks import plain_effect",
        call,
    )

    name = call.removeprefix("testing.").partition("(")[0]
    assert f"ConfigurationError: {name}() was called where no test run is on" in done.stderr
    assert done.returncode == 1


def test_in_the_test_run_itself_nothing_is_changed(monkeypatch):
    monkeypatch.setenv(VARIABLE, json.dumps({"default": "another"}))
    before = connections["default"].settings_dict["NAME"]

    assert use_test_databases() == []
    assert connections["default"].settings_dict["NAME"] == before


def test_a_copy_for_a_parallel_process_is_announced(monkeypatch):
    monkeypatch.setenv(VARIABLE, json.dumps({"default": "first"}))

    under_test._connected(connections["default"])
    under_test._connected(connections["other"])  # of which nothing was announced

    name = str(connections["default"].settings_dict["NAME"])
    assert json.loads(os.environ[VARIABLE]) == {"default": name}


def test_what_is_no_json_is_refused(monkeypatch):
    monkeypatch.setenv(VARIABLE, "{")

    with pytest.raises(ConfigurationError, match="unset it"):
        use_test_databases()
