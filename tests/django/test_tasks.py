"""Declaring tasks: our decorator, Django's, and variants made by using()."""

import inspect
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import django
import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone
from django.utils.module_loading import import_string

from aftercommit import DatabaseBackend, Task, task
from aftercommit._compat import BaseTask, InvalidTask, task_backends
from aftercommit.enqueue.discovery import discover
from aftercommit.enqueue.registry import registered
from aftercommit.enqueue.variants import VARIED
from aftercommit.errors import ConfigurationError
from tests.django import tasks
from tests.django.conftest import DUMMY, IMMEDIATE, ours

SECOND = timedelta(seconds=1)
MODULE = "tests.django.tasks"


def plain(*args):
    """Be declared in many ways."""
    return list(args)


def test_the_decorator_works_bare_and_called():
    for declared in (task(plain), task()(plain), task(function=plain)):
        assert type(declared) is Task
        assert isinstance(declared, BaseTask)
        assert declared.func is plain


def test_without_options_a_task_is_like_djangos():
    declared = task(plain)

    assert (declared.priority, declared.queue_name, declared.backend) == (0, "default", "default")
    assert (declared.run_after, declared.takes_context) == (None, False)
    assert (declared.max_attempts, declared.backoff, declared.timeout) == (None, None, None)
    assert (declared.retry_on, declared.discard_on, declared.atomic) == (None, None, None)


def test_every_option_can_be_declared():
    declared = tasks.with_options

    assert (declared.priority, declared.queue_name, declared.max_attempts) == (7, "mail", 3)
    assert declared.backoff(2) == timedelta(seconds=2)
    assert (declared.retry_on, declared.discard_on) == ((OSError,), ("builtins.ValueError",))
    assert (declared.atomic, declared.timeout) == (True, timedelta(minutes=2))


def test_a_task_has_the_names_that_django_gives_it():
    assert tasks.note.name == "note"
    assert tasks.note.module_path == f"{MODULE}.note"
    assert import_string(tasks.note.module_path) is tasks.note
    assert isinstance(tasks.note.get_backend(), DatabaseBackend)


def test_a_task_is_called_without_a_queue():
    assert tasks.answer.call() == 42
    assert async_to_sync(tasks.answer.acall)() == 42
    assert tasks.anote.call() is None
    assert async_to_sync(tasks.anote.acall)() is None


@pytest.mark.skipif(django.VERSION < (6, 1), reason="Django's decorator takes them since 6.1")
def test_djangos_own_decorator_takes_our_options():
    from django.tasks import task as djangos  # noqa: PLC0415

    declared = djangos(max_attempts=2, retry_on=OSError, timeout=SECOND)(plain)

    assert type(declared) is Task
    assert (declared.max_attempts, declared.timeout) == (2, SECOND)
    assert declared.retry_on == (OSError,)
    with pytest.raises(TypeError, match="run_after"):
        djangos(run_after=timezone.now())(plain)


def test_djangos_own_decorator_declares_a_task_of_ours():
    djangos = import_string(f"{BaseTask.__module__}.task")

    for declared in (djangos(plain), djangos(priority=3, queue_name="mail")(plain)):
        assert type(declared) is Task


# What cannot be a task says so where it is declared.


def test_a_task_is_a_function_of_a_module():
    def local():
        """Be out of reach for a worker."""

    for unreachable in (any, lambda: None, local):
        with pytest.raises(InvalidTask, match="must be defined at a module level"):
            task(unreachable)


def test_a_task_that_takes_the_context_takes_it_first():
    with pytest.raises(InvalidTask, match="does not have a first argument of 'context'"):
        task(takes_context=True)(plain)

    assert tasks.with_context.takes_context


@pytest.mark.parametrize("priority", [-101, 101, 3.1])
def test_a_priority_is_a_whole_number_from_minus_100_to_100(priority):
    with pytest.raises(InvalidTask, match="priority must be a whole number between -100 and 100"):
        task(priority=priority)(plain)
    with pytest.raises(InvalidTask, match="priority must be a whole number"):
        tasks.note.using(priority=priority)


def test_run_after_belongs_to_a_call():
    with pytest.raises(TypeError, match=r"belongs to a call, .* use \.using\(run_after=\.\.\.\)"):
        task(run_after=timezone.now())(plain)


def test_run_after_is_an_aware_moment():
    with pytest.raises(InvalidTask, match="run_after must be an aware datetime"):
        tasks.note.using(run_after=datetime(2100, 1, 1))
    for span in (timedelta(hours=1), 3600, "tomorrow"):
        with pytest.raises(
            InvalidTask, match=rf"{MODULE}\.note: run_after must be an aware datet"
        ):
            tasks.note.using(run_after=span)


@pytest.mark.parametrize(
    ("option", "values", "expected"),
    [
        ("max_attempts", [0, True, "3", 2.5, 2**31], "expected a whole number from 1 to"),
        ("backoff", [5, [], [5], -SECOND, "5s"], "expected a timedelta, a list of timedeltas"),
        ("retry_on", [5, [int], plain], "expected an exception class, its dotted path, or a"),
        ("discard_on", [5, [None]], "expected an exception class, its dotted path, or a"),
        ("atomic", [0, "yes"], "expected True or False"),
        ("timeout", [0, 30, -SECOND], "expected a timedelta above zero"),
    ],
)
def test_an_option_that_makes_no_sense_names_the_task(option, values, expected):
    for value in values:
        with pytest.raises(ConfigurationError) as refused:
            task(**{option: value})(plain)

        assert str(refused.value).startswith(f"{__name__}.plain: {option}: {expected}")


def test_an_option_that_does_not_exist_is_a_type_error():
    with pytest.raises(TypeError, match="max_atempts"):
        task(max_atempts=3)(plain)


def test_a_coroutine_has_no_transaction():
    with pytest.raises(
        InvalidTask, match=rf"{MODULE}\.anote is async, and Django's transactions"
    ):
        task(atomic=True)(tasks.anote.func)


def test_a_dotted_path_fits_its_column(monkeypatch):
    monkeypatch.setattr(plain, "__qualname__", "x" * 255)

    with pytest.raises(
        InvalidTask, match="a task's dotted path must have at most 255 characters"
    ):
        task(plain)


# Variants.


def test_using_makes_a_variant_and_leaves_the_task_as_it_is():
    moment = datetime(2100, 1, 1, tzinfo=UTC)

    variant = (
        tasks.note.using(priority=5, queue_name="mail")
        .using(run_after=moment, backend="other")
        .using(max_attempts=2)
    )

    assert (variant.priority, variant.queue_name, variant.backend) == (5, "mail", "other")
    assert (variant.run_after, variant.max_attempts) == (moment, 2)
    assert variant.func is tasks.note.func
    assert tasks.note == tasks.note.using()
    assert tasks.note is not tasks.note.using()


@pytest.mark.parametrize("option", ["backoff", "retry_on", "discard_on", "atomic", "timeout"])
def test_using_refuses_what_the_worker_takes_from_the_declaration(option):
    with pytest.raises(TypeError) as refused:
        tasks.note.using(**{option: SECOND})

    assert str(refused.value) == (
        f"{MODULE}.note: {option!r} cannot vary from call to call, because the worker takes it "
        f"from the declaration: write @task({option}=...) there."
    )


def test_using_refuses_what_does_not_exist():
    said = rf"{MODULE}\.note: using\(\) has no option"
    with pytest.raises(TypeError, match=rf"{said} 'prio'\. Did you mean 'priority'\?"):
        tasks.note.using(prio=5)
    with pytest.raises(TypeError, match=rf"{said} 'colour'\. It takes priority, queue_name, "):
        tasks.note.using(colour=5)


def test_using_takes_what_it_says_it_takes():
    named = inspect.signature(Task.using).parameters.values()

    assert tuple(one.name for one in named if one.kind is one.KEYWORD_ONLY) == VARIED


def test_using_checks_what_it_is_given():
    with pytest.raises(
        ConfigurationError, match=rf"{MODULE}\.note: max_attempts: expected a whole"
    ):
        tasks.note.using(max_attempts=0)
    with pytest.raises(Exception, match="unknown"):
        tasks.note.using(backend="unknown")


def labelled():
    """Be declared with a class of the project's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledTask(Task):
    """A task of the project's own class, with fields that follow from others."""

    label: str = field(init=False)

    def __post_init__(self):
        Task.__post_init__(self)
        object.__setattr__(self, "label", f"{self.queue_name}/{self.priority}")


def test_using_computes_again_what_a_subclass_computes_from_its_fields():
    declared = LabelledTask(
        func=labelled, priority=1, queue_name="mail", backend="default", run_after=None
    )

    variant = declared.using(priority=5).using(queue_name="slow")

    assert (type(variant), variant.label) == (LabelledTask, "slow/5")
    assert declared.label == "mail/1"
    assert registered(f"{__name__}.labelled") is declared
    with pytest.raises(ConfigurationError, match="max_attempts: expected a whole"):
        declared.using(max_attempts=0)


# Only what was declared can be run.


def test_a_declared_task_is_registered_under_its_path():
    assert registered(f"{MODULE}.note") is tasks.note
    assert registered("os.system") is None


def test_a_variant_does_not_take_the_place_of_its_task():
    tasks.note.using(priority=5)

    assert registered(f"{MODULE}.note") is tasks.note


def test_a_function_that_is_declared_anew_takes_the_place():
    namespace = {"__name__": __name__}
    exec("def again(): pass", namespace)  # noqa: S102
    first = task(namespace["again"])
    exec("def again(): pass", namespace)  # noqa: S102
    second = task(namespace["again"])

    assert first.module_path == second.module_path
    assert registered(second.module_path) is second


def test_a_module_with_tasks_that_cannot_be_imported_is_named():
    with pytest.raises(
        ConfigurationError, match=r"The module 'does\.not\.exist' cannot be imported"
    ):
        discover(["does.not.exist"])


# Pickle.


@pytest.mark.parametrize(
    "original",
    [
        tasks.note,
        tasks.anote,
        tasks.with_options,
        tasks.elsewhere,
        tasks.note.using(priority=5, queue_name="mail", backend="other", max_attempts=2),
        tasks.note.using(run_after=datetime(2100, 1, 1, tzinfo=UTC)),
        tasks.with_options.using(priority=0),
    ],
    ids=lambda original: f"{original.name}-{original.priority}",
)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_task_and_its_variants_can_be_pickled(original, protocol):
    copy = pickle.loads(pickle.dumps(original, protocol))  # noqa: S301

    assert copy == original
    assert type(copy) is Task
    assert copy.func is original.func


def test_another_process_unpickles_a_variant():
    data = pickle.dumps(tasks.with_options.using(priority=1, max_attempts=9))
    code = (
        "import pickle, sys, django; django.setup()\n"
        "task = pickle.loads(bytes.fromhex(sys.argv[1]))\n"
        "print(task.name, task.priority, task.queue_name, task.max_attempts)"
    )

    output = subprocess.run(
        [sys.executable, "-c", code, data.hex()], capture_output=True, text=True, check=True
    ).stdout

    assert output == "with_options 1 mail 9\n"


@pytest.mark.parametrize(
    ("module", "path"),
    [("does.not.exist", "does.not.exist.task"), ("builtins", "builtins.any")],
)
def test_a_pickle_leads_to_a_task_and_nothing_else(module, path):
    rebuild, _arguments = tasks.note.__reduce__()

    with pytest.raises(ValueError, match=f"Expected '{path}' to point to a Task instance"):
        rebuild(module, path, {})


# Other backends.


def test_our_options_mean_nothing_to_djangos_own_backends(backends):
    backends(default=IMMEDIATE, dummy=DUMMY)

    at_once = task(max_attempts=3, timeout=SECOND)(plain)
    kept = task(backend="dummy", atomic=True, retry_on=OSError)(plain)

    assert at_once.enqueue(1).return_value == [1]
    assert kept.enqueue(2).args == [2]
    assert kept.max_attempts is None
    assert pickle.loads(pickle.dumps(kept)) == kept  # noqa: S301


def test_a_task_can_move_to_our_backend_and_back(backends, db):
    backends(default=ours(), at_once=IMMEDIATE)

    assert task(plain).using(backend="at_once").enqueue(1).return_value == [1]
    assert task(backend="at_once")(plain).using(backend="default").enqueue(1).state == "ready"


class TheirTask(BaseTask):
    """Another package's task."""


class TheirBackend(import_string(DUMMY["BACKEND"])):
    """Another package's backend."""

    task_class = TheirTask


class OurHeirsTask(Task):
    """A task that builds upon ours."""


class OurHeir(DatabaseBackend):
    """A backend that builds upon ours."""

    task_class = OurHeirsTask


@pytest.mark.parametrize(
    ("backend", "kind"), [(TheirBackend, TheirTask), (OurHeir, OurHeirsTask)]
)
def test_a_backend_with_a_class_of_its_own_gets_it(backends, backend, kind):
    backends(default={"BACKEND": f"{__name__}.{backend.__name__}"})

    assert type(task(plain)) is kind


def test_options_are_checked_when_the_backend_is_built(backends):
    backends(default=ours(max_atempts=3))

    with pytest.raises(
        ConfigurationError, match=r"TASKS\['default'\]\['OPTIONS'\]: unknown option"
    ):
        task(plain)


def test_each_thread_has_a_backend_of_its_own_with_the_same_options():
    with ThreadPoolExecutor(1) as thread:
        there = thread.submit(lambda: task_backends["default"]).result()

    here = task_backends["default"]
    assert there is not here
    assert there.config == here.config
