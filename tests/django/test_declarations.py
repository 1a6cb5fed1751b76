"""What a worker could not tell apart is refused where it is declared, and nothing else is."""

import doctest
import functools
import importlib
import importlib.util
import subprocess
import sys
from datetime import timedelta
from textwrap import dedent

import pytest

from aftercommit import schedule, task
from aftercommit._compat import InvalidTask
from aftercommit.enqueue import registry
from aftercommit.enqueue.registry import registered
from aftercommit.errors import NotAFunction
from tests.django import tasks
from tests.django.conftest import ours

SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def _declared_for_this_test_only(monkeypatch):
    monkeypatch.setattr(registry, "_declared", dict(registry._declared))


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Return a function that writes and imports a module of this text."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(text, name="declared_here"):
        (tmp_path / f"{name}.py").write_text("from aftercommit import task\n" + dedent(text))
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, name, raising=False)
        return importlib.import_module(name)

    return write


REFUSED = {
    "two functions of one name": (
        """
        @task
        def work():
            return 1

        @task
        def work():
            return 2
        """,
        r"declared_here\.work is the path of two tasks \(line 3 of declared_here.py and line 7",
    ),
    "two with a wrapper": (
        """
        import functools

        def plain():
            return 1

        @functools.wraps(plain)
        def wrapper():
            return plain()

        one = task(plain)
        two = task(wrapper)
        """,
        r"declared_here\.plain is the path of two tasks",
    ),
    "two lambdas": (
        """
        one = task(lambda: 1)
        two = task(lambda: 2)
        """,
        r"declared_here\.<lambda> is the path of two tasks",
    ),
    "other options": (
        """
        from datetime import timedelta

        def plain():
            return 1

        one = task(plain)
        two = task(timeout=timedelta(seconds=1), atomic=True)(plain)
        """,
        r"declared_here\.plain is declared as a task twice, with different atomic, timeout\.",
    ),
    "another context": (
        """
        def plain(context=None):
            return 1

        one = task(plain)
        two = task(takes_context=True)(plain)
        """,
        r"twice, with different takes_context\.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_module_with_two_tasks_of_one_path_is_refused(module, name):
    text, said = REFUSED[name]

    with pytest.raises(InvalidTask, match=said):
        module(text)


def test_a_module_that_declares_a_function_of_another_one_anew_is_refused(module):
    module("@task\ndef work():\n    pass\n", name="declared_first")

    with pytest.raises(InvalidTask, match=r"declared_first\.work is declared as a task twice"):
        module("import declared_first\ntwo = task(atomic=True)(declared_first.work.func)\n")


ALLOWED = {
    "what varies from call to call": """
        def work():
            return 1

        one = task(work)
        two = task(priority=5, queue_name="mail", max_attempts=1)(work)
        """,
    "the same twice": """
        def work():
            return 1

        one = task(atomic=True)(work)
        two = task(atomic=True)(work)
        """,
    "a wrapper": """
        import functools

        def wrapped(function):
            @functools.wraps(function)
            def wrapper(*args):
                return function(*args)
            return wrapper

        @task
        @wrapped
        def work():
            return 1

        @task
        @wrapped
        def another():
            return 2
        """,
    "one of two branches": """
        try:
            import does_not_exist
        except ImportError:
            @task
            def work():
                return 1
        else:
            @task
            def work():
                return 2
        """,
    "variants": """
        @task(atomic=True)
        def work():
            return 1

        urgent = work.using(priority=5)
        """,
}


@pytest.mark.parametrize("name", ALLOWED)
def test_a_module_that_says_nothing_twice_is_not_refused(module, name):
    declared = module(ALLOWED[name])

    assert registered("declared_here.work") is not None
    assert declared


def test_a_module_that_is_reloaded_replaces_its_tasks(module):
    declared = module("@task\ndef work():\n    return 1\n")
    file = declared.__file__
    with open(file, "w", encoding="utf-8") as text:
        text.write(
            "from aftercommit import task\n\n\n@task(atomic=True)\ndef work():\n    return 22\n"
        )
    sys.dont_write_bytecode, before = True, sys.dont_write_bytecode
    try:
        again = importlib.reload(declared)
    finally:
        sys.dont_write_bytecode = before

    assert registered("declared_here.work") is again.work
    assert again.work.call() == 22


def test_a_module_that_is_imported_anew_replaces_its_tasks(module):
    first = module("@task\ndef work():\n    return 1\n")
    second = module("@task(atomic=True)\ndef work():\n    return 1\n")

    assert first.work is not second.work
    assert registered("declared_here.work") is second.work


MARKED = """
import functools

def marked(function):
    @functools.wraps(function)
    def wrapper():
        return function()
    return wrapper

@task
def work():
    return 1

@task
@marked
def wrapped():
    return 1
"""


def test_a_module_may_be_executed_beside_the_imported_one(module):
    declared = module(MARKED)
    spec = importlib.util.spec_from_file_location(declared.__name__, declared.__file__)
    for _time in range(2):
        beside = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(beside)

        assert sys.modules[declared.__name__] is declared
        assert beside.work is not declared.work
        for name in ("work", "wrapped"):
            assert registered(f"declared_here.{name}") is getattr(beside, name)

    importlib.reload(declared)
    assert registered("declared_here.work") is declared.work


def test_a_doctest_may_declare_a_task_with_the_name_of_another(module):
    declared = module(f'''{MARKED}
def explained():
    """Explain how a task is declared.

    >>> @task(atomic=True)
    ... def work():
    ...     return 2
    >>> work.call()
    2
    """
''')

    assert doctest.testmod(declared, raise_on_error=True).attempted == 2


def test_a_decorator_of_another_module_does_not_hide_that_a_path_is_taken(module):
    module(
        "import functools\n\ndef marked(function):\n    @functools.wraps(function)\n"
        "    def wrapper():\n        return function()\n    del wrapper.__wrapped__\n"
        "    return wrapper\n",
        name="decorators_here",
    )
    text = "from decorators_here import marked\n" + 2 * "@task\n@marked\ndef work():\n    pass\n"

    with pytest.raises(InvalidTask, match="is the path of two tasks"):
        module(text)


def test_a_monitor_may_wrap_a_function_after_its_module_was_executed(module):
    """As ``crontask`` does for Sentry, and others when the apps are ready."""
    declared = module("@task\ndef work():\n    return 1\n")
    inner = declared.work.func

    @functools.wraps(inner)
    def monitored():
        return [inner()]

    declared.work = task(monitored)

    assert registered("declared_here.work").call() == [1]


def plain():
    """Be declared by tests."""


@pytest.mark.parametrize(
    "options", [{}, {"atomic": True}, {"timeout": SECOND}, {"atomic": False}]
)
def test_tests_may_declare_a_function_again_and_again(options):
    for given in ({"timeout": 2 * SECOND}, options):
        declared = task(**given)(plain)
        assert registered(f"{__name__}.plain") is declared


def test_a_wrapped_function_replaces_it_in_a_test():
    task(plain)

    @functools.wraps(plain)
    def wrapper():
        return 3

    assert task(wrapper).call() == 3
    assert registered(f"{__name__}.plain").func is wrapper


SCRIPT = """
import django
from django.conf import settings

settings.configure(
    INSTALLED_APPS=["aftercommit"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "x.sqlite3"}},
    TASKS={"default": {"BACKEND": "%s"}},
)
django.setup()
from aftercommit import task

@task
def work():
    return 1
print(work.call())
"""


def test_a_task_of_the_script_that_was_started_is_refused(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT % "aftercommit.DatabaseBackend")

    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)

    assert ended.returncode == 1
    assert "__main__.work is declared in the script that was started. A worker" in ended.stderr


def test_backends_without_a_worker_take_it(tmp_path):
    from aftercommit._compat import BaseTaskBackend  # noqa: PLC0415

    package = BaseTaskBackend.__module__.rpartition(".")[0]
    script = tmp_path / "script.py"
    script.write_text(SCRIPT % f"{package}.immediate.ImmediateBackend")

    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)

    assert ended.stdout == "1\n"


# ---- schedule() --------------------------------------------------------------------------


async def coroutine():
    """Be awaited by nobody."""


class Callable:
    """Have instances that can be called."""

    def __call__(self):
        """Do nothing."""

    def method(self):
        """Do nothing."""


AT_THE_TOP = "it is not a function at the top of a module"
A_TASK = "it is a task: call its enqueue()"


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (functools.partial(plain, "secret"), f"'<partial>' cannot be scheduled: {AT_THE_TOP}"),
        (Callable(), f"'<Callable>' cannot be scheduled: {AT_THE_TOP}"),
        (Callable, f"'Callable' cannot be scheduled: {AT_THE_TOP}"),
        (Callable().method, f"'Callable.method' cannot be scheduled: {AT_THE_TOP}"),
        (print, f"'print' cannot be scheduled: {AT_THE_TOP}"),
        (None, f"'<NoneType>' cannot be scheduled: {AT_THE_TOP}"),
        (7, f"'<int>' cannot be scheduled: {AT_THE_TOP}"),
        (tasks.note, f"'tests.django.tasks.note' cannot be scheduled: {A_TASK}"),
        ("tests.django.tasks.note", f"'tests.django.tasks.note' cannot be scheduled: {A_TASK}"),
        (coroutine, "coroutine' cannot be scheduled: it is async: declare it with @task"),
    ],
)
def test_what_a_worker_could_not_run_is_not_scheduled(settings, function, said):
    settings.TASKS = {"default": ours(allowed_functions=["tests.django"])}
    with pytest.raises(NotAFunction) as refused:
        schedule(function)

    assert said in str(refused.value)
    assert "secret" not in str(refused.value)
