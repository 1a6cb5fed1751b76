"""Django's own tests of ``django.tasks``, changed so that they use our backend."""

import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import django

from tests.contract.sources import CACHE, released

# By the series of Django that is installed; the backport of Django 5.2 is as Django 6.0 was.
RELEASES = {
    (5, 2): ("6.0", "7b0c1f50c0759bbe6331c6a39c89ae022a84672674aeda908784617ef47d8e26"),
    (6, 0): ("6.0", "7b0c1f50c0759bbe6331c6a39c89ae022a84672674aeda908784617ef47d8e26"),
    (6, 1): ("6.1", "86a2aacd59b817e4d6ac2ebfe22356c58f66f7b24e503f71b7c2fead677ee48b"),
}
MODULES = ("test_tasks", "test_dummy_backend", "test_immediate_backend", "test_custom_backend")

ABOUT_DUMMY = "the dummy backend keeps its results in memory, where the test changes them"
ABOUT_IMMEDIATE = "the immediate backend has neither results to be read nor a queue"
IN_LOOP = "it reads the result inside an event loop, where Django forbids to ask a database"
OTHER_CLASS = "the exception is a TypeError there, and here of a class of its own below TypeError"
INTERRUPTED = "the immediate backend runs in the caller; a worker records the end of each run"
IN_TRANSACTION = "the immediate backend runs a task at once, ours when the transaction commits"
LEFT_OUT = {
    "TaskTestCase.test_refresh_result": IN_LOOP,
    "DummyBackendTestCase.test_refresh_result": ABOUT_DUMMY,
    "DummyBackendTestCase.test_refresh_result_async": ABOUT_DUMMY,
    "ImmediateBackendTestCase.test_cannot_get_result": ABOUT_IMMEDIATE,
    "ImmediateBackendTestCase.test_cannot_refresh_result": ABOUT_IMMEDIATE,
    "ImmediateBackendTestCase.test_cannot_pass_run_after": ABOUT_IMMEDIATE,
    "ImmediateBackendTestCase.test_complex_return_value": OTHER_CLASS,
    "ImmediateBackendTestCase.test_throws_keyboard_interrupt": INTERRUPTED,
    "ImmediateBackendTransactionTestCase."
    "test_doesnt_wait_until_transaction_commit_by_default": IN_TRANSACTION,
}
# Every change that is made to the text of Django's tests.
CHANGES = (
    (r"django\.tasks\.backends\.(dummy|immediate)\b", "tests.contract.kept"),
    # Tests that need no database there need one here; a job runs after its commit.
    (r"SimpleTestCase, TransactionTestCase\b", "TransactionTestCase"),
    (r"\bSimpleTestCase\b", "TransactionTestCase"),
    (r"    available_apps = \[\]\n", "    pass\n"),
)
FOR_THE_BACKPORT = (
    (r"\bdjango\.tasks\b", "django_tasks"),
    (r"\bInvalidTask\b", "InvalidTaskError"),
    (r"\bInvalidTaskBackend\b", "InvalidTaskBackendError"),
    (r"support async Tasks\.", "support async tasks."),
)
FOR_PYTHON_3_11 = ((r"without an implementation for (abstract method) '(\w+)'", r"with \1 \2"),)


def modules() -> list[ModuleType]:
    """Return the test modules; raises ``NotFetched`` if Django's sources are not to be had."""
    version, sha256 = RELEASES[django.VERSION[:2]]
    tests = released("django", version, sha256) / "tests" / "tasks"
    changes = CHANGES if django.VERSION >= (6,) else (*CHANGES, *FOR_THE_BACKPORT)
    if sys.version_info < (3, 12):
        changes = (*changes, *FOR_PYTHON_3_11)
    package = CACHE / f"tests-of-{version}-on-{django.VERSION[0]}" / "tasks"
    package.mkdir(parents=True, exist_ok=True)
    for file in tests.glob("*.py"):
        text = file.read_text()
        for pattern, replacement in changes:
            text = re.sub(pattern, replacement, text)
        _write(package / file.name, text)
    sys.path.insert(0, str(package.parent))
    return [import_module(f"tasks.{name}") for name in MODULES]


def _write(file: Path, text: str) -> None:
    if not file.exists() or file.read_text() != text:
        file.write_text(text)
