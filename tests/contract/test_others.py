"""The suites of packages that use ``django.tasks``, and a site with Wagtail, over our backend."""

import re
from pathlib import Path

import pytest
from django.conf import settings

from tests.contract.djangos import ABOUT_IMMEDIATE, LEFT_OUT
from tests.contract.environments import python_with, run
from tests.contract.sources import NotFetched, committed

HERE = Path(__file__).parent
SQLITE = settings.DATABASE_KIND == "sqlite"
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not SQLITE, reason="these have SQLite databases of their own"),
]

DJANGO_TASKS = (
    "django-tasks",
    "https://github.com/RealOrangeOne/django-tasks",
    "caaf8090ef08759243094b746d9f7260b8d9199b",  # 0.12.0
)
CRONTASK = (
    "django-crontask",
    "https://github.com/codingjoe/django-crontask",
    "95d292862b53493d4e44880828667ddd0021823b",  # after 2.0.1
)
OURS = """
from {theirs} import *

INSTALLED_APPS = [*INSTALLED_APPS, "aftercommit"]
TASKS = {{"default": {{"BACKEND": "aftercommit.DatabaseBackend", "QUEUES": []}}}}
DATABASES = {{
    "default": {{
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": {file!r},
        "TEST": {{"NAME": {file!r}}},
        "OPTIONS": {{"transaction_mode": "IMMEDIATE", "timeout": 20}},
    }}
}}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
SECRET_KEY = "only for tests"
"""
ABOUT_THEMSELVES = "it is about the backport's own backend without settings"
LEFT_OUT_OF_THE_BACKPORT = {
    **LEFT_OUT,
    "DjangoCompatTestCase.test_uses_lib_tasks_by_default": ABOUT_THEMSELVES,
    "ImmediateBackendTestCase.test_get_result_from_different_request": ABOUT_IMMEDIATE,
}


def sources_of(package):
    """Return the sources of a package, or skip aloud."""
    try:
        return committed(*package)
    except NotFetched as reason:
        pytest.skip(f"the tests of {package[0]} cannot be had: {reason}")


def environment_with(name, *requirements):
    """Return a Python with these packages, or skip aloud."""
    try:
        return python_with(name, *requirements)
    except NotFetched as reason:
        pytest.skip(str(reason))


def copied(source, folder):
    """Copy a repository to where its tests can be changed."""
    for file in source.rglob("*"):
        if file.is_file() and ".git" not in file.parts:
            target = folder / file.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())


def with_our_settings(folder, theirs):
    """Write settings beside theirs, by which their tasks are jobs of ours."""
    file = str(folder / "db.sqlite3")
    (folder / "our_settings.py").write_text(OURS.format(theirs=theirs, file=file))


def test_the_suite_of_django_crontask(tmp_path):
    python = environment_with(
        "crontask",
        "django~=6.1.0",
        "django-crontask==2.0.1",
        "pytest",
        "pytest-django",
        "sentry-sdk",
    )
    copied(sources_of(CRONTASK) / "tests", tmp_path / "tests")
    with_our_settings(tmp_path, "tests.testapp.settings")

    said = run(
        python,
        *("-m", "pytest", "--ds=our_settings", "-q", "-p", "no:cacheprovider", "tests"),
        folder=tmp_path,
    )

    assert int(re.search(r"(\d+) passed", said)[1]) > 20, said


def test_the_suite_of_the_backport(tmp_path):
    python = environment_with("backport", "django~=5.2.0", "django-tasks==0.12.0")
    copied(sources_of(DJANGO_TASKS) / "tests", tmp_path / "tests")
    for file in (tmp_path / "tests").rglob("test_*.py"):
        file.write_text(_over_our_backend(file.read_text()))
    (tmp_path / "kept.py").write_text((HERE / "kept.py").read_text())
    with_our_settings(tmp_path, "tests.settings")

    said = run(
        python, "-m", "django", "test", "--settings=our_settings", "tests", folder=tmp_path
    )

    assert int(re.search(r"Ran (\d+) tests", said)[1]) > 50, said


def _over_our_backend(text):
    text = re.sub(r"django_tasks\.backends\.(dummy|immediate)\b", "kept", text)
    text = re.sub(r"\bSimpleTestCase\b", "TransactionTestCase", text)
    for case_and_name in LEFT_OUT_OF_THE_BACKPORT:
        case, _, name = case_and_name.partition(".")
        pattern = rf"(class {case}\(.*?def ){name}\b"
        text = re.sub(pattern, rf"\1left_out_{name}", text, count=1, flags=re.DOTALL)
    return text


def test_a_wagtail_site_publishes_uploads_and_searches(tmp_path):
    python = environment_with("wagtail", "django~=6.1.0", "wagtail==8.0.1")

    said = run(
        python,
        str(HERE / "wagtail_site" / "play.py"),
        folder=tmp_path,
        PYTHONPATH=str(HERE),
        DJANGO_SETTINGS_MODULE="wagtail_site.settings",
        SITE_FOLDER=str(tmp_path),
    )

    assert "('succeeded', 'wagtail.tasks.update_reference_index_task')" in said
