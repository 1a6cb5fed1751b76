"""Which functions a row may name."""

import sys
import sysconfig
from itertools import count
from pathlib import Path

import pytest
from django.test import override_settings

from aftercommit.enqueue.allowed import function_at
from aftercommit.errors import FunctionNotAllowed, NotAFunction
from aftercommit.options.conf import BackendOptions

_numbers = count(1)
USUAL = BackendOptions()
JOBS = """
import os, subprocess
from os import system
from posixpath import join
from subprocess import run
from {name}.shown import shown
from {name}._inner import hidden
def good(): return "good"
def _private(): pass
def __dunder__(): pass
class Kind:
    def method(self): pass
class _Kind: pass
lambda_ = lambda: None
"""
FILES = {
    "__init__.py": "",
    "jobs.py": JOBS,
    "shown.py": "def shown(): pass",
    "_inner.py": "def hidden(): pass\ndef _hidden(): pass",
    "__main__.py": "def main(): pass",
    "_sub/__init__.py": "",
    "_sub/jobs.py": "def good(): pass",
    "lazy.py": "asked = []\n"
    "def __getattr__(name): import posixpath; asked.append(name); return posixpath.join",
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Return a function that writes an app, installs it in this process, and returns its name."""
    used = []

    def write(folder=tmp_path, parent="", **more):
        root = f"app{next(_numbers)}"
        name = f"{root}.inner" if parent else root
        if parent:
            folder.joinpath(root).mkdir(parents=True)
            folder.joinpath(root, "__init__.py").touch()
        for file, text in {**FILES, **more}.items():
            path = folder.joinpath(*name.split("."), file)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("{name}", name))
        monkeypatch.syspath_prepend(folder)
        installed = override_settings(INSTALLED_APPS=["tests.app", "aftercommit", name])
        installed.enable()
        used.append((installed, root))
        return name

    yield write
    for installed, root in used:
        installed.disable()
        for one in [one for one in sys.modules if one.partition(".")[0] == root]:
            del sys.modules[one]


@pytest.mark.parametrize("name", ["jobs.good", "shown.shown", "jobs.shown"])
def test_a_public_function_of_an_own_app_may_be_named(name, package):
    path = f"{package()}.{name}"

    assert function_at(path, USUAL).__name__ == name.rpartition(".")[2]


@pytest.mark.parametrize(
    "name",
    [
        *("jobs._private", "jobs.__dunder__", "_inner.hidden", "_inner._hidden", "jobs._Kind"),
        *("__main__.main", "_sub.jobs.good", "jobs.Kind._m", "jobs.__builtins__.exec"),
        *("jobs.run", "jobs.join", "jobs.hidden"),
    ],
)
def test_a_private_or_an_imported_name_may_not(name, package):
    app = package()

    with pytest.raises(FunctionNotAllowed):
        function_at(f"{app}.{name}", USUAL)

    private = [one for one in sys.modules if one.startswith(f"{app}._")]
    assert set(private) <= {f"{app}._inner"}  # which the app itself imports


@pytest.mark.parametrize(
    "name",
    [
        *(
            "jobs.system",
            "jobs.os.system",
            "jobs.subprocess.run",
            "jobs.Kind.method",
            "jobs.Kind",
        ),
        *("jobs.lambda_x", "lazy.join", "lazy.anything", "jobs", "jobs.", "jobs..good", "", "."),
        *("jobs.good.__call__x", "jobs.good\n", "jobs.\0", "\ud800.x", "jobs.good()", "é.x"),
    ],
)
def test_what_is_no_function_of_its_module_is_not_run(name, package):
    with pytest.raises((NotAFunction, FunctionNotAllowed)):
        function_at(f"{package()}.{name}", USUAL)


def test_a_module_is_not_asked_to_import_what_a_row_names(package):
    app = package()

    with pytest.raises(NotAFunction):
        function_at(f"{app}.lazy.join", USUAL)

    assert "join" not in sys.modules[f"{app}.lazy"].asked


@pytest.mark.parametrize("path", [None, 5, ["tests.app.chores.scheduled"], {}, True])
def test_a_path_that_is_no_text_is_refused(path):
    with pytest.raises(NotAFunction):
        function_at(path, USUAL)


@pytest.mark.parametrize(
    "path", ["aftercommit.jobs.cancel", "aftercommit.enqueue.functions.schedule"]
)
def test_this_package_is_not_the_projects_own_wherever_it_lies(path):
    with pytest.raises(FunctionNotAllowed):
        function_at(path, USUAL)


@pytest.mark.parametrize("inner", ["", "inner"])
@pytest.mark.parametrize("where", ["site-packages", "lib/dist-packages", "vendor"])
def test_an_installed_app_is_not_the_projects_own(where, inner, package, tmp_path):
    folder = tmp_path / where
    app = package(folder, inner)
    if where == "vendor":  # pip install --target vendor
        record = folder / "other-1.0.dist-info" / "RECORD"
        record.parent.mkdir()
        record.write_text(f"other.py,,\n{app.partition('.')[0]}/__init__.py,sha256=x,1\n")

    with pytest.raises(FunctionNotAllowed):
        function_at(f"{app}.jobs.good", USUAL)


def test_an_app_beside_installed_packages_is_the_projects_own(package, tmp_path):
    app = package()
    record = tmp_path / "other-1.0.dist-info" / "RECORD"
    record.parent.mkdir()
    record.write_text(f"{app}x/__init__.py,sha256=x,1\n")

    assert function_at(f"{app}.jobs.good", USUAL)() == "good"


def test_an_app_in_the_standard_library_is_not_the_projects_own(package, tmp_path, monkeypatch):
    app = package(tmp_path / "lib")
    usual = sysconfig.get_path
    monkeypatch.setattr(
        sysconfig,
        "get_path",
        lambda one: str(tmp_path / "lib") if one == "stdlib" else usual(one),
    )

    with pytest.raises(FunctionNotAllowed):
        function_at(f"{app}.jobs.good", USUAL)


def test_a_part_of_an_app_that_lies_elsewhere_is_not_its_own(package, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    elsewhere.joinpath("plugin.py").write_text("def good(): pass")
    app = package(**{"__init__.py": f"__path__.append({str(elsewhere)!r})"})

    with pytest.raises(FunctionNotAllowed):
        function_at(f"{app}.plugin.good", USUAL)

    listed = BackendOptions(allowed_functions=(f"{app}.plugin",))
    assert function_at(f"{app}.plugin.good", listed).__module__ == f"{app}.plugin"


@pytest.mark.parametrize(
    ("listed", "name"),
    [
        ("jobs", "jobs.good"),
        ("jobs.good", "jobs.good"),
        ("jobs._private", "jobs._private"),
        ("_inner", "_inner.hidden"),
        ("_inner._hidden", "_inner._hidden"),
        ("_sub", "_sub.jobs.good"),
        ("jobs.join", "jobs.join"),
        ("lazy.join", "lazy.join"),
    ],
)
def test_what_the_settings_name_may_be_run(listed, name, package):
    app = package()
    options = BackendOptions(allowed_functions=[f"{app}.{listed}"])

    assert function_at(f"{app}.{name}", options).__name__ == name.rpartition(".")[2]


@pytest.mark.parametrize(
    ("listed", "name"),
    [
        ("jobs", "jobs._private"),
        ("jobs", "jobs.join"),
        ("jobs", "jobsx.good"),
        ("jobs", "shown.shown"),
        ("jobs.good", "jobs._private"),
        ("_inner", "_inner._hidden"),
        ("jobs", "jobs.hidden"),
    ],
)
def test_a_listed_module_lets_through_its_own_public_functions_only(listed, name, package):
    app = package()

    with pytest.raises(FunctionNotAllowed):
        function_at(f"{app}.{name}", BackendOptions(allowed_functions=[f"{app}.{listed}"]))


def test_an_empty_list_allows_nothing():
    with pytest.raises(FunctionNotAllowed):
        function_at("tests.app.chores.scheduled", BackendOptions(allowed_functions=[]))


def test_the_apps_of_these_tests_are_the_projects_own():
    assert Path(function_at("tests.app.chores.scheduled", USUAL).__code__.co_filename).is_file()
