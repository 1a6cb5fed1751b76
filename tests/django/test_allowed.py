"""Which functions a row may name."""

import sys
import sysconfig
from importlib import import_module
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
    "made.py": "from {name}._decorators import inner, outer\n"
    "from {name}.decorators import public_inner\n"
    "def _impl(): return 'made'\npublic = _impl\n"
    "def decorated_here(f):\n    def _inner(): return f()\n    return _inner\n"
    "@decorated_here\ndef local(): return 'made'\n"
    "@inner\ndef private_decorator(): return 'made'\n"
    "@public_inner\ndef public_decorator(): return 'made'\n",
    "_decorators.py": "def inner(f):\n    def _inner(): return f()\n    return _inner\n"
    "def outer(f): return f\n",
    "decorators.py": "def public_inner(f):\n    def _inner(): return f()\n    return _inner\n",
    "migrations/__init__.py": "",
    "migrations/first.py": "def forwards(): pass",
    "tests/__init__.py": "",
    "tests/test_shop.py": "def helper(): return 'helped'",
    "folder/daily.py": "def good(): return 'good'",  # no __init__.py
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


@pytest.mark.parametrize("name", ["public", "local", "private_decorator", "public_decorator"])
def test_the_public_name_of_a_function_that_the_app_has_made_counts(name, package):
    assert function_at(f"{package()}.made.{name}", USUAL)() == "made"


def test_a_listed_module_may_give_its_private_function_a_public_name(package):
    app = package()
    listed = BackendOptions(allowed_functions=(f"{app}.made",))

    assert function_at(f"{app}.made.public", listed)() == "made"
    with pytest.raises(FunctionNotAllowed):
        function_at(f"{app}.made._impl", listed)


@pytest.mark.parametrize("name", ["migrations.first.forwards", "tests.test_shop.helper"])
def test_migrations_and_tests_are_not_imported(name, package):
    app = package()

    with pytest.raises(FunctionNotAllowed):
        function_at(f"{app}.{name}", USUAL)

    assert not [one for one in sys.modules if one.startswith(f"{app}.")]
    listed = BackendOptions(allowed_functions=(f"{app}.{name}",))
    assert function_at(f"{app}.{name}", listed)


def test_a_test_may_schedule_a_function_of_its_own_module(package):
    app = package()
    import_module(f"{app}.tests.test_shop")
    import_module(f"{app}.migrations.first")

    assert function_at(f"{app}.tests.test_shop.helper", USUAL)() == "helped"
    with pytest.raises(FunctionNotAllowed):
        function_at(f"{app}.migrations.first.forwards", USUAL)


def test_a_folder_without_an_init_file_is_part_of_the_app(package):
    assert function_at(f"{package()}.folder.daily.good", USUAL)() == "good"


@pytest.mark.parametrize("name", ["plugin", "inner.plugin", "inner"])
def test_a_part_of_an_app_that_lies_elsewhere_is_not_imported(name, package, tmp_path):
    elsewhere = tmp_path / "site-packages" / "theirs"
    for file in ("plugin.py", "inner/__init__.py", "inner/plugin.py"):
        elsewhere.joinpath(file).parent.mkdir(parents=True, exist_ok=True)
        elsewhere.joinpath(file).write_text("import sys\nsys.executed = True\ndef good(): pass\n")
    app = package(**{"__init__.py": f"__path__.append({str(elsewhere)!r})"})

    with pytest.raises(FunctionNotAllowed):
        function_at(f"{app}.{name}.good", USUAL)

    assert not hasattr(sys, "executed")
    assert f"{app}.{name.partition('.')[0]}" not in sys.modules


@pytest.mark.parametrize("parent", ["", "deep"])
def test_a_file_may_be_a_link_out_of_the_folder_of_its_app(parent, package, tmp_path):
    sources = tmp_path / "sources"
    sources.mkdir()
    sources.joinpath("linked.py").write_text("def good(): return 'linked'")
    app = package()
    folder = tmp_path / app / parent
    folder.mkdir(exist_ok=True)
    folder.joinpath("linked.py").symlink_to(sources / "linked.py")
    name = ".".join(filter(None, (app, parent, "linked", "good")))

    assert function_at(name, USUAL)() == "linked"


@pytest.mark.parametrize("what", ["file", "folder", "above"])
def test_a_link_to_installed_packages_is_not_followed(what, package, tmp_path):
    installed = tmp_path / "site-packages" / "theirs"
    installed.mkdir(parents=True)
    installed.joinpath("linked.py").write_text("import sys\nsys.executed = True\ndef good(): 1\n")
    app = package(
        **{"__init__.py": f"__path__.append(__path__[0] + {'/../site-packages/theirs'!r})"}
    )
    name = "linked"
    if what == "file":
        tmp_path.joinpath(app, "linked.py").symlink_to(installed / "linked.py")
    if what == "folder":
        tmp_path.joinpath(app, "theirs").symlink_to(installed, target_is_directory=True)
        name = "theirs.linked"

    with pytest.raises(FunctionNotAllowed):
        function_at(f"{app}.{name}.good", USUAL)

    assert not hasattr(sys, "executed")


def test_an_app_whose_folder_is_a_link_is_the_projects_own(package, tmp_path):
    app = package(tmp_path / "sources")
    for one in [one for one in sys.modules if one.partition(".")[0] == app]:
        del sys.modules[one]
    where = tmp_path / "links"
    where.mkdir()
    where.joinpath(app).symlink_to(tmp_path / "sources" / app, target_is_directory=True)
    sys.path.insert(0, str(where))  # undone by syspath_prepend
    with override_settings(INSTALLED_APPS=["tests.app", "aftercommit", app]):
        assert function_at(f"{app}.jobs.good", USUAL)() == "good"
        assert str(where) in sys.modules[f"{app}.jobs"].__file__
