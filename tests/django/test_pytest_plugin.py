"""The pytest plugin and the mixin are the functions, and cost nobody who does not use them."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from django.test import TestCase

import aftercommit
from aftercommit import testing
from aftercommit.testing import JobsMixin
from tests.app.tasks import add, atomic_effect, committed_effect

ROOT = Path(aftercommit.__file__).parents[2]
NAMES = sorted({*testing.__all__} - {"CapturedJobs", "JobsMixin"})
THEIRS = """
import sys
import pytest

class Looking:
    def pytest_sessionfinish(self):
        found = [name for name in sys.modules if name.partition(".")[0] == "django"]
        print("DJANGO", found, "PLUGIN", "aftercommit.pytest_plugin" in sys.modules)

sys.exit(pytest.main(["-q", "-p", "aftercommit.pytest_plugin", "-p",
    "no:randomly", "-p", "no:cacheprovider", "--rootdir", sys.argv[1], "-c", "/dev/null",
    sys.argv[1]], plugins=[Looking()]))
"""


def test_the_package_tells_pytest_of_the_plugin():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["entry-points"]["pytest11"] == {"aftercommit": "aftercommit.pytest_plugin"}


def test_a_project_without_django_does_not_load_it(tmp_path):
    (tmp_path / "test_theirs.py").write_text("def test_one():\n    assert True\n")

    done = subprocess.run(
        [sys.executable, "-c", THEIRS, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        # Where this package is installed, pytest has loaded the plugin by its entry point.
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )

    assert "DJANGO [] PLUGIN True" in done.stdout, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.parametrize("name", NAMES)
def test_each_fixture_is_a_function(name):
    from aftercommit import pytest_plugin  # noqa: PLC0415

    fixture = getattr(pytest_plugin, f"_{name}")

    assert fixture.__wrapped__() is getattr(testing, name)


class MixinTests(JobsMixin, TestCase):
    def test_its_methods_are_the_functions(self):
        with self.capture_jobs() as jobs:
            atomic_effect.enqueue("one")
        self.assertEnqueued(atomic_effect, args=["one"], count=1)
        self.assertNotEnqueued(add)
        assert len(self.run_jobs()) == len(jobs) == 1
        with pytest.raises(AssertionError, match="Expected no job"):
            self.assertNotEnqueued(atomic_effect)
        committed_effect.call(self.context_for(committed_effect), "two")
        with self.travel(testing.running.NO_TIME):
            assert self.run_jobs() == []
