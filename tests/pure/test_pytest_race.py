"""``pytest --aftercommit-race`` in a project that has nothing else of this package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import aftercommit

SRC = Path(aftercommit.__file__).parents[1]
PROJECT = Path(__file__).parent / "race_project"
LOADED = """
import sys

def pytest_sessionfinish():
    print("LOADED", "aftercommit.reproduce" in sys.modules)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    shutil.copytree(PROJECT, folder, dirs_exist_ok=True)
    (folder / "shop_tests.py").rename(folder / "test_shop.py")
    (folder / "conftest.py").write_text(LOADED)
    return folder


def run(project, *options):
    done = subprocess.run(
        [
            *(
                sys.executable,
                "-m",
                "pytest",
                "-v",
                "-p",
                "no:cacheprovider",
                "-p",
                "no:randomly",
            ),
            *("-p", "aftercommit.pytest_plugin", "-p", "pytest_django.plugin"),
            *("-c", "/dev/null", "--rootdir", str(project), *options, str(project)),
        ],
        cwd=project,
        capture_output=True,
        text=True,
        check=False,
        # Where this package is installed, pytest has loaded the plugin by its entry point.
        env=os.environ
        | {
            "DJANGO_SETTINGS_MODULE": "settings",
            "PYTHONPATH": os.pathsep.join([str(SRC), str(project)]),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
    )
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def output(project):
    return run(project, "--aftercommit-race", "--aftercommit-race-schedules=early,rollback")


def outcome(output, name):
    found = re.search(rf"test_shop\.py::{name} (\w+)", output)
    assert found, output
    return found[1]


@pytest.mark.parametrize(
    "name",
    [
        "PlainTests::test_naive",
        "PlainTests::test_eager_chain",
        "PlainTests::test_eager_group",
        "PlainTests::test_eager_chord",
        "CommittingTests::test_naive",
        "test_naive_function",
    ],
)
def test_a_test_whose_code_has_the_race_fails(output, name):
    assert outcome(output, name) == "FAILED"


@pytest.mark.parametrize(
    "name",
    [
        "PlainTests::test_right",
        "PlainTests::test_rows_of_the_class_are_seen_by_the_task",
        "PlainTests::test_without_a_task",
        "PlainTests::test_callback_is_not_called",
        "PlainTests::test_callback_without_a_task",
        "PlainTests::test_callback_that_fails",
        "CommittingTests::test_right",
        "test_right_function",
        "test_nothing_is_left",
    ],
)
def test_any_other_test_passes(output, name):
    assert outcome(output, name) == "PASSED"


def test_the_failure_is_the_report(output):
    assert "rollback: the commit fails" in output
    assert re.search(
        r"Dispatch of shop\.tasks\.send_receipt\(\d\):\n +shop/tasks\.py:\d+", output
    )
    assert "test_shop.py" in output.partition("The transaction was")[2]


def test_a_test_that_fails_by_itself_is_not_tried(output):
    assert outcome(output, "PlainTests::test_that_fails_by_itself") == "FAILED"
    assert "test_that_fails_by_itself" not in output.partition("not judged")[2].partition("=")[0]


def test_the_report_shows_the_log_of_the_test_and_no_log_of_further_runs(output):
    of_one = output.partition("_ PlainTests.test_naive _")[2].partition("\n____")[0]

    assert "rollback: the commit fails" in of_one
    assert of_one.count("A receipt is sent") == 1
    assert "All traceback entries are hidden" not in output


def test_the_summary_names_what_was_not_judged(output):
    assert "not judged" in output
    assert re.search(r"::test_that_wants_to_be_inside_a_transaction: fails when tasks", output)
    assert outcome(output, "test_that_wants_to_be_inside_a_transaction") == "PASSED"


def test_a_callback_that_a_plain_test_case_never_calls_is_lost_with_the_process(project):
    crash = "--aftercommit-race-schedules=crash"
    output = run(project, "--aftercommit-race", crash, "-k=callback")

    assert outcome(output, "PlainTests::test_callback_is_not_called") == "FAILED"
    assert "shop.tasks.send_receipt does not run" in output
    assert outcome(output, "PlainTests::test_callback_without_a_task") == "PASSED"
    assert "2 tests may dispatch tasks: 1 with a race, 1 not judged" in output
    assert re.search(r"::test_callback_that_fails: fails when .* after the commit: Val", output)


def test_without_the_option_nothing_is_loaded(project):
    output = run(project, "-k", "test_right")

    assert "LOADED False" in output
    assert "3 passed" in output


def test_a_schedule_that_does_not_exist_is_refused(project):
    output = run(project, "--aftercommit-race", "--aftercommit-race-schedules=erly")

    assert "There is no schedule 'erly'" in output
