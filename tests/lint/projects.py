"""Small projects for the linter: files by name, and what is found in them."""

from pathlib import Path
from textwrap import dedent

from aftercommit.lint.analysis import Report, lint
from aftercommit.lint.configuration import Configuration
from aftercommit.lint.findings import Finding
from aftercommit.race_rules import Severity

ALL = Configuration(severity=Severity.POLICY)


def write(folder: Path, files: dict[str, str]) -> None:
    """Write the files of a project."""
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(content))


def report(folder: Path, files: dict[str, str], configuration: Configuration = ALL) -> Report:
    """Write a project and lint it."""
    project = folder / "project"  # the name of the test is no part of the project
    write(project, files)
    return lint([project], configuration)


def findings(
    folder: Path, files: dict[str, str], configuration: Configuration = ALL
) -> tuple[Finding, ...]:
    """Write a project and return what is found in it."""
    return report(folder, files, configuration).findings


def rules_in(folder: Path, files: dict[str, str]) -> list[tuple[str, Severity]]:
    """Return the rules and severities of what is found in a project."""
    return [(one.rule, one.severity) for one in findings(folder, files)]


def only(folder: Path, code: str, *, head: str = "", **files: str) -> list[tuple[str, int]]:
    """Return rule and line of what is found in one file beside a task ``send`` and a model."""
    every = {
        "shop/models.py": "from django.db import models\nclass Order(models.Model): ...\n",
        "shop/tasks.py": "from celery import shared_task\n@shared_task\ndef send(pk): ...\n",
        "shop/code.py": "from django.db import transaction\nfrom shop.models import Order\n"
        f"from shop.tasks import send\n{dedent(code)}",
        **files,
    }
    return [
        (one.rule, one.line) for one in findings(folder, every) if one.path.endswith("code.py")
    ]
