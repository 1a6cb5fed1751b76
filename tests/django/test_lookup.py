"""A task outside of ``tasks.py`` is found by its path, and nothing else is imported for a row."""

import logging
import sys
import time
from textwrap import dedent
from types import SimpleNamespace

import pytest
from django.conf import settings as django_settings

from aftercommit.enqueue import lookup, registry
from aftercommit.enqueue.lookup import known_task
from aftercommit.models import Job
from aftercommit.worker.inline import InlineWorker
from tests.django import tasks
from tests.django.conftest import DUMMY, only_job, ours

ELSEWHERE = "tests.app.elsewhere"


@pytest.fixture(autouse=True)
def _forgotten(monkeypatch):
    """Let every test be the first that looks for these tasks."""
    kept = {path: one for path, one in registry._declared.items() if ELSEWHERE not in path}
    monkeypatch.setattr(registry, "_declared", kept)
    monkeypatch.setattr(lookup, "_not_found", set())
    monkeypatch.setattr(lookup, "_failed", {})
    before = set(sys.modules)
    sys.modules.pop(ELSEWHERE, None)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def package(tmp_path, monkeypatch, settings):
    """Return a function that writes a module; each says aloud when it is executed."""
    executed = []
    monkeypatch.setattr(lookup, "executed", executed, raising=False)
    monkeypatch.syspath_prepend(tmp_path)

    def write(path, text=""):
        file = tmp_path.joinpath(*path.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        for folder in [one for one in file.parents if tmp_path in one.parents]:
            (folder / "__init__.py").touch()
        said = f"from aftercommit.enqueue import lookup\nlookup.executed.append({path!r})\n"
        file.write_text(said + dedent(text))

    write.executed = executed
    return write


A_TASK = """
    from aftercommit import task

    @task
    def work():
        return "worked"
"""


# ---- found -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "returned"),
    [
        ("found_late", []),
        ("Shelf.found_in_a_class", "in a class"),
        ("_hidden", "renamed"),
    ],
)
@pytest.mark.django_db(transaction=True)
def test_a_worker_runs_a_task_of_any_module_of_an_installed_app(backends, name, returned):
    backends(default=ours())
    result = tasks.note.enqueue()
    Job.objects.update(task_path=f"{ELSEWHERE}.{name}")

    InlineWorker().run()

    assert (only_job().state, only_job().return_value) == ("succeeded", returned)
    assert result.task.get_backend().get_result(result.id).return_value == returned


def test_a_package_that_the_options_name_is_searched(backends, package):
    package("shop_lib.deep.down", A_TASK)
    backends(default=ours(task_packages=["shop_lib"]))

    assert known_task("shop_lib.deep.down.work").call() == "worked"


def test_any_backend_may_name_a_package(backends, package):
    package("shop_lib.jobs", A_TASK)
    missing = {"BACKEND": "does.not.exist"}
    backends(default=DUMMY, missing=missing, ours=ours(task_packages=["shop_lib"]))

    assert known_task("shop_lib.jobs.work").call() == "worked"


def test_a_task_of_another_class_is_found_in_its_module(backends, package):
    package(
        "shop_lib.jobs",
        """
        from aftercommit._compat import BaseTask
        from tests.django.conftest import FIELDS

        def work():
            return "worked"

        work = BaseTask(**{**FIELDS, "backend": "dummy"}, func=work)
        """,
    )
    backends(default=ours(task_packages=["shop_lib"]), dummy=DUMMY)

    assert known_task("shop_lib.jobs.work").call() == "worked"


NEVER_IMPORTED = ("shop_lib.migrations.first", "shop_lib.tests.test_jobs")

# ---- not found, and not imported ------------------------------------------------------------

NEVER = [
    "",
    ".",
    "..",
    "work",
    ".work",
    "shop_lib",
    "shop_lib.",
    "shop_lib..work",
    "shop_lib.jobs.",
    ".shop_lib.jobs.work",
    "shop_lib/jobs.work",
    "shop_lib.jobs/../evil.work",
    "shop_library.jobs.work",
    "shop.jobs.work",
    "evil.jobs.work",
    "os.system",
    "subprocess.run",
    "shop_lib.__main__.work",
    "shop_lib.migrations.first.work",
    "shop_lib.tests.test_jobs.work",
    "shop_lib.jobs.__dict__.work",
    "shop_lib.jobs.work.__globals__",
    "shop_lib.jobs\n.work",
    "shop_lib.jobs\0.work",
    "shop_lib.jobs .work",
    "\N{CYRILLIC SMALL LETTER DZE}hop_lib.jobs.work",
    f"shop_lib.{'x' * 300}.work",
    "django.contrib.admin.sites.site",
    "django.contrib.admin.bin.work",
    "aftercommit.management.commands.aftercommit.Command",
    "tests.django.tasks.nothing",
]


@pytest.mark.parametrize("path", NEVER, ids=ascii)
def test_nothing_is_imported_for_a_path_that_is_not_allowed(backends, package, path, monkeypatch):
    for module in (*("shop_lib.jobs", "shop_lib.__main__"), *NEVER_IMPORTED):
        package(module, A_TASK)
    package("evil.jobs", A_TASK)
    package("shop.jobs", A_TASK)
    backends(default=ours(task_packages=["shop_lib"]))
    imported = []
    import_module = lookup.import_module
    monkeypatch.setattr(
        lookup, "import_module", lambda name: imported.append(name) or import_module(name)
    )

    assert known_task(path) is None
    # Of an allowed module nothing more is run than the module itself.
    assert set(package.executed) <= {"shop_lib.jobs"}
    assert all(name.startswith("shop_lib.") for name in imported)


@pytest.mark.parametrize(
    "name", ["not_a_task", "task", "nothing", "Shelf", "renamed", "found_late.func", "Shelf.x.y"]
)
def test_what_is_no_task_of_that_path_is_not_found(name):
    assert known_task(f"{ELSEWHERE}.{name}") is None


def test_a_task_that_is_only_imported_there_is_not_found_there(backends, package):
    package("shop_lib.jobs", A_TASK)
    package("shop_lib.views", "from shop_lib.jobs import work")
    backends(default=ours(task_packages=["shop_lib"]))

    assert known_task("shop_lib.views.work") is None
    assert known_task("shop_lib.jobs.work") is not None


def test_a_lazy_value_in_the_module_is_not_evaluated(backends, package):
    package(
        "shop_lib.jobs",
        """
        from django.utils.functional import SimpleLazyObject

        def fail():
            raise RuntimeError("evaluated")

        work = SimpleLazyObject(fail)
        """,
    )
    backends(default=ours(task_packages=["shop_lib"]))

    assert known_task("shop_lib.jobs.work") is None


@pytest.mark.parametrize("text", ["raise SystemExit(1)", "1 / 0", "import does_not_exist", "("])
def test_a_module_that_cannot_be_imported_is_named_once(backends, package, text, caplog):
    package("shop_lib.jobs", text)
    backends(default=ours(task_packages=["shop_lib"]))

    with caplog.at_level(logging.WARNING, logger="aftercommit"):
        assert known_task("shop_lib.jobs.work") is None
        assert known_task("shop_lib.jobs.work") is None

    (line,) = caplog.messages
    assert "names the task 'shop_lib.jobs.work', and module 'shop_lib.jobs', where" in line


@pytest.fixture
def moved_clock(monkeypatch):
    """Return a function that moves the clock of the look-up."""
    moved = [0.0]
    usual = time.monotonic
    monkeypatch.setattr(
        lookup, "time", SimpleNamespace(monotonic=lambda: usual() + moved[0]), raising=True
    )
    return lambda seconds: moved.append(moved.pop() + seconds)


@pytest.mark.parametrize("error", ["OSError", "ImportError", "SystemExit", "ModuleNotFoundError"])
def test_a_module_whose_import_failed_is_tried_again_later(
    backends, package, moved_clock, monkeypatch, error
):
    """As one that asks a service while it is imported, and the service is away."""
    monkeypatch.setattr(lookup, "away", True, raising=False)
    text = f"if lookup.away:\n    raise {error}('the service is away')\n" + dedent(A_TASK)
    package("shop_lib.jobs", text)
    backends(default=ours(task_packages=["shop_lib"]))

    for path in ("shop_lib.jobs.work", "shop_lib.jobs.work", "shop_lib.jobs.other"):
        assert known_task(path) is None
    assert len(package.executed) == 1

    monkeypatch.setattr(lookup, "away", False)
    moved_clock(lookup.RETRY_AFTER)
    assert known_task("shop_lib.jobs.other") is None
    assert known_task("shop_lib.jobs.work").call() == "worked"
    assert len(package.executed) == 2


def test_remembered_failures_are_bounded(backends, package, monkeypatch):
    monkeypatch.setattr(lookup, "MOST_REMEMBERED", 3)
    backends(default=ours(task_packages=["shop_lib"]))

    for number in range(10):
        package(f"shop_lib.jobs{number}", "1 / 0")
        known_task(f"shop_lib.jobs{number}.work")

    assert 1 <= len(lookup._failed) <= 3


def test_a_path_that_leads_nowhere_is_looked_up_once(backends, package):
    package("shop_lib.jobs")
    backends(default=ours(task_packages=["shop_lib"]))

    for _time in range(3):
        assert known_task("shop_lib.jobs.work") is None
    del sys.modules["shop_lib.jobs"]
    assert known_task("shop_lib.jobs.work") is None

    assert package.executed == ["shop_lib.jobs"]


def test_remembered_paths_are_bounded(backends, package, monkeypatch):
    monkeypatch.setattr(lookup, "MOST_REMEMBERED", 3)
    package("shop_lib.jobs")
    backends(default=ours(task_packages=["shop_lib"]))

    for number in range(10):
        known_task(f"shop_lib.jobs.work{number}")

    assert len(lookup._not_found) <= 3


def test_only_installed_apps_count_by_default(package):
    package("shop_lib.jobs", A_TASK)

    assert "tests.app" in django_settings.INSTALLED_APPS
    assert known_task("shop_lib.jobs.work") is None
    assert package.executed == []
