"""A call that does not fit its function is refused with the words of Python."""

import functools
from types import SimpleNamespace

import pytest

from aftercommit.enqueue.signature import check_call, check_calls, misfit


def plain(a, b=1, *, c=None):
    """Take what most tasks take."""


def strict(a, /, b, *, c):
    """Take one argument by position, and one by name only."""


def anything(*args, **kwargs):
    """Take everything."""


def several(a, *rest, **options):
    """Take one argument, and more."""


async def asynchronous(a):
    """Take one argument, later."""


def inner(a):
    """Take what a decorator passes on."""


@functools.wraps(inner)
def passing_on(*args, **kwargs):
    """Pass on less, or more."""


def kept():
    """Return a function whose argument is a cell."""

    def closure(a, b=2):
        return lambda: (a, b)

    return closure


CALLS = [
    ((), {}),
    ((1,), {}),
    ((1, 2), {}),
    ((1, 2, 3), {}),
    ((1, 2, 3, 4), {}),
    ((), {"a": 1}),
    ((1,), {"a": 2}),
    ((1,), {"b": 2, "c": 3}),
    ((1, 2), {"c": 3}),
    ((1,), {"d": 4}),
]
FUNCTIONS = [plain, strict, anything, several, passing_on, kept(), lambda a: a]


def declared(function, *, takes_context=False):
    return SimpleNamespace(func=function, takes_context=takes_context)


def said(call, *args, **kwargs):
    """Return what a call raises, as text."""
    try:
        call(*args, **kwargs)
    except TypeError as error:
        return str(error)
    return None


def check_among_others(task, args, kwargs):
    check_calls(task, [(args, kwargs)] * 2)


CHECKS = pytest.mark.parametrize("check", [check_call, check_among_others])


@CHECKS
@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda one: one.__name__)
@pytest.mark.parametrize(("args", "kwargs"), CALLS, ids=repr)
def test_what_calling_the_function_would_raise_is_raised(function, args, kwargs, check):
    assert said(check, declared(function), args, kwargs) == said(function, *args, **kwargs)


@CHECKS
@pytest.mark.parametrize(("args", "kwargs"), CALLS, ids=repr)
def test_the_context_of_a_task_is_not_among_the_arguments(args, kwargs, check):
    task = declared(plain, takes_context=True)

    assert said(check, task, args, kwargs) == said(plain, "context", *args, **kwargs)


def test_an_async_function_is_checked_and_not_called():
    assert said(check_call, declared(asynchronous), (1,), {}) is None
    assert "missing 1 required positional argument: 'a'" in said(
        check_call, declared(asynchronous), (), {}
    )


@CHECKS
@pytest.mark.parametrize("function", [len, functools.partial(plain, 1), str], ids=repr)
def test_what_is_no_plain_function_is_let_through(function, check):
    assert said(check, declared(function), (1, 2, 3, 4), {"z": 5}) is None


def test_an_error_is_a_misfit_only_if_the_call_does_not_fit():
    task = declared(plain)

    assert str(misfit(TypeError(), task, (), {})) == said(plain)
    assert misfit(TypeError(), task, (1,), {}) is None
    assert misfit(ValueError(), task, (), {}) is None
    assert misfit(TypeError(), task, (), {}).__traceback__ is None


class Batch(SimpleNamespace):
    """A task that runs several jobs in one call."""

    has_our_options = True
    batch_size = 5


def test_a_task_that_is_called_in_another_way_has_no_misfits():
    task = Batch(func=plain, takes_context=False)

    assert misfit(TypeError(), task, (), {}) is None
