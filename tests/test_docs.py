"""The documentation is true: its code runs, its links lead somewhere, its lists are whole.

``tests.docs.pages`` tells how a block is run, and how to write one that is not.
"""

import ast
import os
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path
from unittest.mock import Mock
from urllib.parse import urlsplit

import pytest
from django.core.management import get_commands, load_command_class

import aftercommit
from aftercommit import pytest_plugin
from aftercommit.lint import cli as lint
from aftercommit.under_test import VARIABLE
from tests.docs import pages
from tests.docs.pages import ROOT, Block, extras

SRC = Path(aftercommit.__file__).parent
EXPLANATION = ROOT / "docs" / "explanation"
# Commands of others that a block may use.
OUTSIDE = {"createdb", "django-admin", "docker", "kill", "kubectl", "sudo", "systemctl"}
DJANGOS_OWN = {
    *("check", "createsuperuser", "makemigrations", "migrate", "runserver", "shell", "startapp"),
    "test",
}


def where(value: object) -> str:
    """Name a page or a block in the name of its test."""
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


def every_block(language: str) -> list[Block]:
    """Return the blocks of a language from all pages."""
    found = [block for page in pages.pages() for block in pages.blocks(page)]
    return [block for block in found if block.language == language]


# Code.


@pytest.mark.parametrize("block", [*every_block("python"), *every_block("check")], ids=where)
def test_a_block_of_python_can_be_compiled(block):
    compile(block.code, str(block), "exec")


@pytest.mark.parametrize("block", [b for b in every_block("diff") if b.file], ids=where)
def test_both_sides_of_a_diff_can_be_compiled(block):
    compile(block.before, str(block), "exec")
    compile(block.after, str(block), "exec")


@pytest.mark.parametrize(
    "page",
    [page for page in pages.pages() if any(b.is_run for b in pages.blocks(page))],
    ids=where,
)
def test_the_code_of_a_page_runs(page, tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "tests.docs.run_page", page, tmp_path],
        cwd=ROOT,
        # A page has databases of its own, whatever tests have run in this process.
        env={name: value for name, value in os.environ.items() if name != VARIABLE},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert run.returncode == 0, run.stdout + run.stderr


def test_every_block_says_what_it_is():
    known = {
        "python",
        "console",
        "check",
        "ini",
        "dockerfile",
        "mermaid",
        "text",
        "sql",
        "diff",
        "yaml",
    }

    for page in pages.pages():
        for block in pages.blocks(page):
            assert block.language in known, block
            assert set(block.options) <= {"no-run", "run"}, block


def test_every_fence_is_closed():
    for page in pages.pages():
        assert "```" not in pages.prose(page), page


# Commands.


def commands() -> list[tuple[str, str]]:
    """Return the command lines of all console blocks, each with its place."""
    return [
        (str(block), line.removeprefix("$ "))
        for block in every_block("console")
        for line in block.code.splitlines()
        if line.startswith("$ ")
    ]


def pytest_options() -> set[str]:
    """Return the options that our plugin adds to pytest."""
    parser = Mock()
    pytest_plugin.pytest_addoption(parser)
    return {call.args[0] for call in parser.getgroup().addoption.call_args_list}


def accepted_by_python(words: list[str]) -> None:
    """Assert that a script of ours exists, or that a command takes its options."""
    assert words[0] in {"manage.py", "demo/run.py", "demo/check.py"}, words
    if words[0] == "manage.py":
        accepts(words[1], words[2:])
    else:
        assert (ROOT / words[0]).exists()


def accepted_by_console(words: list[str]) -> None:
    """Assert that our own program takes its options."""
    if words[0] == "guard":
        accepts("aftercommit_guard", words[1:])
    else:
        assert words[0] == "lint", words
        lint.parser().parse_args(words[1:])


@pytest.mark.parametrize(("place", "line"), commands())
def test_a_command_exists_and_takes_its_options(place, line):
    program, *words = shlex.split(line, comments=True)
    words = words[: words.index("||")] if "||" in words else words

    match program:
        case "make":
            assert words[0] in make_targets()
        case "pip":
            assert words[0] == "install"
            assert wanted_extras(words[1:]) <= set(extras())
        case "python":
            accepted_by_python(words)
        case "aftercommit":
            accepted_by_console(words)
        case "pytest":
            options = {word.partition("=")[0] for word in words if word.startswith("--")}
            assert options <= pytest_options(), place
        case _ if program.isupper() or "=" in program:
            pass  # a variable before a command of the tests; see CONTRIBUTING
        case _:
            assert program in OUTSIDE, place


def test_commands_in_other_files_take_their_options():
    found = [
        (name, options)
        for language in ("ini", "dockerfile", "text")
        for block in every_block(language)
        for name, options in re.findall(
            r"manage\.py (aftercommit worker|flush_queue)([^\n]*)",
            re.sub(r'[",\[\]]+ *', " ", block.code).replace("  ", " "),
        )
    ]

    assert found
    for name, options in found:
        program, *words = f"{name}{options}".split()
        accepts(program, words)


def accepts(name: str, words: list[str]) -> None:
    """Parse words as the command would; it must be ours or one of Django's."""
    apps = get_commands()
    if name in DJANGOS_OWN:
        return
    app = apps.get(name)
    assert app in {"aftercommit", "aftercommit.guard"}, f"there is no command {name}"
    parser = load_command_class(app, name).create_parser("manage.py", name)
    parser.parse_args(words)  # ends the test if it does not


@cache
def make_targets() -> set[str]:
    """Return what ``make`` can be asked for."""
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def wanted_extras(words: list[str]) -> set[str]:
    """Return the extras of ours that ``pip install`` is asked for."""
    found = [re.fullmatch(r"aftercommit(?:\[([\w,]+)\])?", word) for word in words]
    return {name for one in found if one and one[1] for name in one[1].split(",")}


# Links.


@pytest.mark.parametrize("page", pages.pages(), ids=where)
def test_every_link_leads_somewhere(page):
    for link in pages.links(page):
        parts = urlsplit(link)
        if parts.scheme:
            assert parts.scheme == "https", link
            continue
        target = (page.parent / parts.path).resolve() if parts.path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        if parts.fragment:
            assert parts.fragment in pages.anchors(target), link


def test_every_page_can_be_reached_from_the_start_page():
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / urlsplit(link).path).resolve() for link in pages.links(index)}

    assert {page for page in pages.pages() if page.parent != ROOT} - {index} <= linked


# Tests that pages name.


def test_every_promise_names_its_tests():
    for page, section in [
        (pages.README, "## Promises"),
        (EXPLANATION / "guarantees.md", "## The promises"),
    ]:
        rows = pages.tables(page, section)
        assert rows
        for row in rows:
            assert pages.TEST.search(row[-1]), row[0]


@pytest.mark.parametrize("named", pages.named_tests(), ids="::".join)
def test_a_named_test_exists(named):
    file, name = named

    path = ROOT / file

    assert path.exists()
    nodes = ast.walk(ast.parse(path.read_text()))
    assert name in {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


# Words.


@pytest.mark.parametrize("page", pages.pages(), ids=where)
def test_no_page_promises_what_nobody_can_keep(page):
    assert not re.search(r"exactly[ -]once", page.read_text(), re.IGNORECASE)


@pytest.mark.parametrize("page", pages.pages(), ids=where)
def test_a_page_begins_with_its_one_title(page):
    text = pages.prose(page)

    assert text.startswith("# ")
    assert len(re.findall(r"^# ", text, re.MULTILINE)) == 1
