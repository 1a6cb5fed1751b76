"""The linter as a part of others: flake8 and pre-commit."""

import os
import shlex
import subprocess
import sys
import tomllib
from importlib import import_module

import pytest

from aftercommit.lint import flake8
from aftercommit.lint.cli import parser
from tests.docs.pages import ROOT
from tests.lint.projects import write

FILES = {
    "pyproject.toml": "[tool.aftercommit.lint]\nseverity = 'error'\n",
    "shop/tasks.py": "from celery import shared_task\n@shared_task\ndef send(pk): ...\n",
    "shop/receipts.py": "from shop.tasks import send\n\n\ndef notify(o):\n    send.delay(o.pk)\n",
    "shop/services.py": """
        from django.db import transaction
        from shop.receipts import notify
        @transaction.atomic
        def f(order):
            order.save()
            notify(order)
    """,
}


@pytest.fixture
def project(tmp_path):
    flake8._by_file.cache_clear()
    write(tmp_path, FILES)
    return tmp_path


def test_a_file_has_the_findings_that_only_the_whole_project_shows(project):
    plugin = flake8.Plugin(None, str(project / "shop" / "receipts.py"))

    ((line, column, text, made_by),) = plugin.run()

    assert (line, column, made_by) == (5, 4, flake8.Plugin)
    assert text.startswith("AC102 send.delay() is sent")
    assert list(flake8.Plugin(None, str(project / "shop" / "services.py")).run()) == []


def test_the_standard_input_has_no_project(project):
    assert list(flake8.Plugin(None, "stdin").run()) == []


def test_flake8_runs_it_when_it_is_asked_to(project):
    (project / "tox.ini").write_text(
        "[flake8]\n[flake8:local-plugins]\nextension =\n  AC = aftercommit.lint.flake8:Plugin\n"
    )

    def run(*options):
        return subprocess.run(
            [sys.executable, "-m", "flake8", "--config", "tox.ini", *options, "shop/receipts.py"],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        ).stdout

    assert "AC102" not in run()
    assert "shop/receipts.py:5:5: AC102 send.delay()" in run("--enable-extensions", "AC")


def test_the_entry_points_lead_to_what_they_name():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    named = [
        project["scripts"]["aftercommit"],
        *project["entry-points"]["flake8.extension"].values(),
    ]

    for one in named:
        module, _, name = one.partition(":")
        assert callable(getattr(import_module(module), name))


def test_the_hooks_for_pre_commit_are_commands_of_the_linter():
    hooks = (ROOT / ".pre-commit-hooks.yaml").read_text()
    entries = [line.split(": ", 1)[1] for line in hooks.splitlines() if "entry: " in line]

    assert len(entries) == 2
    for entry in entries:
        program, command, *words = shlex.split(entry)
        assert (program, command) == ("aftercommit", "lint")
        parser().parse_args([*words, "."])
