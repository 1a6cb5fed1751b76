"""A project that has no queue of ours: the guard, and nothing else, in a process of its own."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import aftercommit

SRC = Path(aftercommit.__file__).parents[1]
SETTINGS = """
SECRET_KEY = "x"
USE_TZ = True
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
}
INSTALLED_APPS = ["aftercommit.guard"]
"""
SHOP = """
import http.client
from django.db import transaction

@transaction.atomic
def place_order():
    try:
        http.client.HTTPConnection("127.0.0.1", 1).request("GET", "/")
    except OSError:
        pass
"""
TESTS = """
import pytest
from django.test import TestCase
from shop import place_order

class Orders(TestCase):
    def test_order(self):
        place_order()

@pytest.mark.django_db
def test_order():
    place_order()
"""


@pytest.fixture
def site(tmp_path):
    """Return a function that runs a command in a small project."""
    for name, text in (("site_settings", SETTINGS), ("shop", SHOP), ("test_shop", TESTS)):
        (tmp_path / f"{name}.py").write_text(text)
    (tmp_path / "manage.py").write_text(
        "import sys\nfrom django.core.management import execute_from_command_line\n"
        "execute_from_command_line(sys.argv)\n"
    )

    def run(*command, **environment):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("AFTERCOMMIT_")}
        paths = os.pathsep.join([str(tmp_path), str(SRC)])
        return subprocess.run(
            [sys.executable, "-W", "ignore::pytest.PytestConfigWarning", *command],
            cwd=tmp_path,
            env={
                **kept,
                "DJANGO_SETTINGS_MODULE": "site_settings",
                "PYTHONPATH": paths,
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


def pytest_of(site, *options):
    plugin = ("-p", "aftercommit.pytest_plugin")
    if any(one.name == "aftercommit" for one in _entry_points()):
        plugin = ()
    return site("-m", "pytest", "-q", *plugin, "-p", "no:randomly", "-c", "/dev/null", *options)


def _entry_points():
    from importlib.metadata import entry_points  # noqa: PLC0415 - beside its only use

    return entry_points(group="pytest11")


def test_in_tests_it_raises_by_itself(site):
    done = pytest_of(site, ".")

    assert "2 failed" in done.stdout, done.stdout + done.stderr
    assert "shop.py:8 in place_order: AC401 A GET request to 127.0.0.1" in done.stdout
    assert "by @atomic of shop.place_order" in done.stdout


def test_a_baseline_is_written_and_accepts_what_is_there(site, tmp_path):
    first = pytest_of(
        site,
        *("--aftercommit-guard", "log", "--aftercommit-guard-baseline", "accepted.json", "."),
    )

    assert "2 passed" in first.stdout, first.stdout + first.stderr
    assert "shop.py:8 in place_order: AC401 A GET request to 127.0.0.1 (2 times)" in first.stdout
    assert [
        one["path"] for one in json.loads((tmp_path / "accepted.json").read_text())["findings"]
    ]
    settings = tmp_path / "site_settings.py"
    settings.write_text(SETTINGS + 'AFTERCOMMIT_GUARD = {"baseline": "accepted.json"}\n')
    assert "2 passed" in pytest_of(site, ".").stdout
    assert "2 passed" in pytest_of(site, "--aftercommit-guard", "raise", ".").stdout


BASELINE = "--aftercommit-guard-baseline=accepted.json"


def configure(tmp_path, setting):
    (tmp_path / "site_settings.py").write_text(f"{SETTINGS}AFTERCOMMIT_GUARD = {setting}\n")


@pytest.mark.parametrize("setting", [{"ignore": ["shop.py"]}, {"adapters": {"http": "log"}}])
def test_the_option_stands_for_the_mode_and_the_setting_says_the_rest(site, tmp_path, setting):
    configure(tmp_path, setting)

    assert "2 passed" in pytest_of(site, "--aftercommit-guard", "raise", ".").stdout


def test_a_wrong_setting_ends_the_run(site, tmp_path):
    configure(tmp_path, {"ignore": "shop.py"})
    done = pytest_of(site, "--aftercommit-guard", "raise", ".")

    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "['ignore']: expected a list of paths" in done.stderr


@pytest.mark.parametrize("there", [True, False])
def test_a_baseline_that_is_written_again_holds_all_places(site, tmp_path, there):
    configure(tmp_path, {"baseline": "accepted.json", "adapters": {"http": "raise"}})
    if there:
        assert (
            "Written to accepted.json"
            in pytest_of(site, "--aftercommit-guard", "log", BASELINE, ".").stdout
        )
    done = pytest_of(site, "--aftercommit-guard", "log", BASELINE, ".")

    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert len(json.loads((tmp_path / "accepted.json").read_text())["findings"]) == 1


@pytest.mark.parametrize(
    "options", [["-k", "nothing"], ["--collect-only"], ["-x", "-k", "broken or order"]]
)
def test_a_run_that_did_not_come_to_its_end_leaves_the_baseline_as_it_is(site, tmp_path, options):
    (tmp_path / "accepted.json").write_text("{}")
    (tmp_path / "test_broken.py").write_text("def test_broken(): assert False")
    done = pytest_of(site, "--aftercommit-guard", "log", BASELINE, *options, ".")

    assert (tmp_path / "accepted.json").read_text() == "{}", done.stdout + done.stderr
    assert "accepted.json is not written" in done.stdout


def test_a_baseline_of_several_processes_is_refused(site, tmp_path):
    if find_spec("xdist") is None:
        (tmp_path / "conftest.py").write_text(
            "def pytest_addoption(parser): parser.addoption('--numprocesses')"
        )
    done = pytest_of(site, "--aftercommit-guard", "log", BASELINE, "--numprocesses", "2", ".")

    assert "leave out -n" in done.stderr, done.stdout + done.stderr


@pytest.mark.parametrize("mode", ["log", "raise"])
def test_the_summary_has_the_findings_of_all_processes_once(site, tmp_path, mode):
    pytest.importorskip("xdist")
    more = TESTS.replace("Orders", "More").replace("test_order", "test_more")
    (tmp_path / "test_more.py").write_text(more)
    options = ("--aftercommit-guard", mode, "-n", "2", "--dist", "loadfile", ".")
    done = pytest_of(site, *options)

    assert f"4 {'passed' if mode == 'log' else 'failed'}" in done.stdout, (
        done.stdout + done.stderr
    )
    place = "shop.py:8 in place_order: AC401 A GET request to 127.0.0.1"
    summary = done.stdout.partition("sent inside open transactions")[2]
    assert summary.count(place + " (4 times)") == 1, done.stdout
    opened = summary.split("place_order, called at ")[1:]
    assert {one.partition(":")[0] for one in opened} <= {"test_shop.py", "test_more.py"}
    assert "… and at 1 other place" in summary


def test_the_summary_says_where_the_transaction_was_opened(site):
    done = pytest_of(site, "--aftercommit-guard", "log", ".")

    lines = done.stdout.splitlines()
    place = next(number for number, line in enumerate(lines) if "(2 times)" in line)
    assert lines[place + 1] == (
        "    The transaction on 'default' was opened by @atomic of shop.place_order, called at "
        "test_shop.py:8 in Orders.test_order"
    )
    assert "test_shop.py:12 in test_order" in lines[place + 2]


def test_neither_the_queue_nor_its_tables_nor_other_libraries_are_loaded(site):
    code = (
        "import django, sys; django.setup();"
        "print([one for one in sys.modules if one.startswith(('celery', 'rq', 'dramatiq', 'huey',"
        "'requests', 'httpx', 'aftercommit.enqueue', 'aftercommit.models', 'aftercommit.relay.',"
        "'aftercommit._compat'))])"
    )
    done = site("-c", code)

    assert done.stdout == "[]\n", done.stdout + done.stderr


def test_a_library_that_is_imported_later_is_watched(site):
    code = """
import django; django.setup()
from aftercommit.guard import install
install(mode="raise")
import celery
app = celery.Celery("later", broker="redis://127.0.0.1:1/0")
from django.db import transaction
try:
    with transaction.atomic():
        app.send_task("a")
except Exception as error:
    print(type(error).__name__, celery.app.amqp.__spec__.loader.__class__.__name__)
"""
    done = site("-c", code)

    assert done.stdout == "DispatchInTransaction SourceFileLoader\n", done.stderr


def test_findings_are_stored_and_reported_without_the_queue(site, tmp_path):
    settings = tmp_path / "site_settings.py"
    settings.write_text(
        SETTINGS.replace(":memory:", str(tmp_path / "db.sqlite3"))
        + 'AFTERCOMMIT_GUARD = {"mode": "log", "store": True}\n'
    )
    assert site("manage.py", "migrate").returncode == 0
    assert site("manage.py", "shell", "-c", "from shop import *; place_order()").returncode == 0
    ours = site("manage.py", "aftercommit_guard", "report")
    console = site("-c", "from aftercommit.console import main; main(['guard', 'report'])")

    assert "1  shop.py:8 in place_order: AC401" in ours.stdout, ours.stderr
    assert console.stdout == ours.stdout


SCRIPT = Path(sys.executable).with_name("aftercommit")


@pytest.mark.skipif(not SCRIPT.exists(), reason="the package is not installed here")
def test_the_console_script_reports_and_clears_in_a_process_of_its_own(site, tmp_path):
    (tmp_path / "site_settings.py").write_text(
        SETTINGS.replace(":memory:", str(tmp_path / "db.sqlite3"))
        + 'AFTERCOMMIT_GUARD = {"mode": "log", "store": True}\n'
    )

    def console(*words, **environment):
        code = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
        return site("-c", code, str(SCRIPT), "guard", *words, **environment)

    unmigrated = console("report")
    assert unmigrated.returncode == 1
    assert "Fix: run manage.py migrate" in unmigrated.stderr
    assert "Traceback" not in unmigrated.stderr
    assert site("manage.py", "migrate").returncode == 0
    assert site("manage.py", "shell", "-c", "from shop import *; place_order()").returncode == 0
    report = console("report")
    assert report.returncode == 0, report.stderr
    assert "1  shop.py:8 in place_order: AC401" in report.stdout
    assert [one["count"] for one in json.loads(console("report", "--format=json").stdout)] == [1]
    assert console("clear").stdout == "1 place forgotten.\n"
    assert console("report").stdout == "0 places.\n"
    assert console("nothing").returncode == 2
    without = console("report", DJANGO_SETTINGS_MODULE="")
    assert (without.returncode, without.stdout) == (2, "")
    assert "only lint runs without Django's settings" in without.stderr


def test_check_says_what_is_wrong(site, tmp_path):
    settings = tmp_path / "site_settings.py"
    settings.write_text(SETTINGS + 'AFTERCOMMIT_GUARD = {"mode": "loud"}\n')
    done = site("manage.py", "check")

    assert "aftercommit_guard.E001" in done.stderr


SWALLOWED = """
import pytest
from django.test import TestCase
from shop import place_order

def caught():
    try:
        place_order()
    except Exception:
        pass

class Orders(TestCase):
    def test_caught(self):
        caught()

    def test_order(self):
        place_order()

@pytest.mark.django_db
def test_caught():
    caught()
"""
CAUGHT = "2 of them were raised in tests that passed"


@pytest.mark.parametrize("options", [(), ("-n", "2")])
def test_the_summary_says_what_was_raised_and_caught(site, tmp_path, options):
    if options:
        pytest.importorskip("xdist")
    (tmp_path / "test_shop.py").write_text(SWALLOWED)
    done = pytest_of(site, "--aftercommit-guard", "raise", *options, ".")

    assert "1 failed, 2 passed" in done.stdout, done.stdout + done.stderr
    assert CAUGHT in done.stdout


@pytest.mark.parametrize("mode", ["log", "raise"])
def test_the_summary_says_nothing_of_the_kind_if_nothing_was_caught(site, mode):
    done = pytest_of(site, "--aftercommit-guard", mode, ".")

    assert "sent inside open transactions" in done.stdout, done.stdout + done.stderr
    assert "of them" not in done.stdout
