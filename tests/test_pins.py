"""What CI takes from others is named by its content: packages by hashes, actions by commits."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = re.compile(r"([a-z0-9-]+)==\S+( ;.*)? \\\n((    --hash=sha256:[0-9a-f]{64}( \\)?\n)+)")
LOCKS = sorted(ROOT.glob("requirements/*.txt"))
WORKFLOWS = sorted(ROOT.glob(".github/workflows/*.yml"))
if not WORKFLOWS:
    pytest.skip("these files are not in the source distribution", allow_module_level=True)


def locked(file):
    return [found[1] for found in PACKAGE.finditer(file.read_text())]


@pytest.mark.parametrize("file", LOCKS, ids=lambda file: file.name)
def test_a_lock_holds_packages_with_hashes_and_nothing_else(file):
    text = re.sub("(?m)^#.*\n", "", file.read_text())

    assert locked(file)
    assert PACKAGE.sub("", text) == ""


def pinned(file):
    """Return the packages of a file with the Python each is for: a lock may name several."""
    return [(found[1], found[2]) for found in PACKAGE.finditer(file.read_text())]


def test_all_that_ci_installs_is_locked_once():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*extras["dependencies"], "hatchling", "editables"]
    for extra in ("test", "dev", "demo", "docs", "backport"):
        wanted += extras["optional-dependencies"][extra]
    names = {re.split(r"[\[>=<~]", one)[0].lower() for one in wanted}
    for series in ("5.2", "6.0", "6.1"):
        django = pinned(ROOT / f"requirements/django-{series}.txt")
        found = [*pinned(ROOT / "requirements/ci.txt"), *django]
        always = {name for name, python in found if python is None}

        assert len(set(found)) == len(found)
        assert always.isdisjoint(name for name, python in found if python)
        assert names <= {name for name, _ in found}


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_an_action_is_named_by_its_commit_and_its_version(file):
    used = re.findall(r"uses: (.+)", file.read_text())

    assert used
    for one in used:
        assert re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", one), one
