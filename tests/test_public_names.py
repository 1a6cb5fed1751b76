"""The words that users import: none comes or goes by accident."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import aftercommit

WORDS = {
    "Cancel",
    "DatabaseBackend",
    "Delays",
    "Discard",
    "Exponential",
    "Retry",
    "Snooze",
    "Task",
    "deschedule",
    "enqueue_many",
    "once",
    "ordering_key",
    "schedule",
    "task",
}


def test_the_public_words_are_these_and_sorted():
    assert aftercommit.__all__ == sorted(WORDS)


@pytest.mark.parametrize("word", sorted(WORDS))
def test_a_public_word_is_documented(word):
    value = getattr(aftercommit, word)

    assert value.__module__.startswith("aftercommit")
    assert value.__doc__
    assert not value.__doc__.startswith(f"{word}(")  # the docstring that dataclasses make up


def test_a_star_import_brings_the_public_words():
    namespace = {}

    exec("from aftercommit import *", namespace)  # noqa: S102

    assert set(namespace) - {"__builtins__"} == WORDS


def test_a_word_that_is_not_ours_is_missing_in_the_usual_way():
    with pytest.raises(AttributeError, match="module 'aftercommit' has no attribute 'tsak'"):
        _ = aftercommit.tsak


def test_the_words_for_type_checkers_are_the_words_at_run_time():
    tree = ast.parse(Path(aftercommit.__file__).read_text())
    imported = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("aftercommit")
        for alias in node.names
    }

    assert set(imported) == WORDS
    for word, module in imported.items():
        assert getattr(aftercommit, word) is getattr(importlib.import_module(module), word)


def test_importing_the_package_needs_neither_settings_nor_django_tasks():
    code = (
        "import sys; sys.modules['django.tasks'] = sys.modules['django_tasks'] = None\n"
        "import aftercommit; print(aftercommit.Exponential().maximum, aftercommit.__version__)"
    )

    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    assert output == f"1:00:00 {aftercommit.__version__}\n"
