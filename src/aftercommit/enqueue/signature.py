"""Whether a call fits the function of its task, said in Python's own words.

``inspect.Signature.bind()`` has words of its own, and takes microseconds. So a function without
a body, which takes the same arguments, is called instead.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from inspect import CO_VARARGS, CO_VARKEYWORDS
from types import FunctionType
from typing import Any

from aftercommit.enqueue.registry import option
from aftercommit.enqueue.secret import check_secrets, secret_parameters

MOST_REMEMBERED = 4096  # functions of tasks


def function_of_calls(task: Any) -> Callable[..., Any]:
    """Return the function that takes what a call of a task takes.

    Not that of a task with ``batch_size``, which takes the list of calls.
    """
    if option(task, "batch_size") is None:
        func: Callable[..., Any] = task.func
        return func
    return option(task, "signature") or _anything


def _anything(*_args: Any, **_kwargs: Any) -> None:
    """Stand for what the calls of a batch take if its task has no ``signature``."""


def check_call(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments that the function of a task does not take.

    Raises ``TypeError``, as calling the function would. Only what a function itself declares is
    looked at: a decorator around it may pass on more, or less. What is no plain function (a
    callable object, one in C) is let through.
    """
    check_of_calls(task)(*args, **kwargs)


def check_of_calls(task: Any) -> Callable[..., None]:
    """Return a function that refuses such arguments, to be called with those of many calls."""
    func = function_of_calls(task)
    if type(func) is not FunctionType:
        return _anything
    check = _without_body(func)
    return partial(check, None) if task.takes_context else check


def check_calls(task: Any, calls: Iterable[tuple[Sequence[Any], Mapping[str, Any]]]) -> None:
    """Do the same for many calls, and look at the function once."""
    check = check_of_calls(task)
    if check is not _anything:
        for args, kwargs in calls:
            check(*args, **kwargs)


def misfit(
    error: BaseException, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> TypeError | None:
    """Return why a call that has raised ``error`` does not fit its function; None if it does.

    If it does not, the function has not begun, and never would. That of a task with
    ``batch_size`` is called in another way.
    """
    if not issubclass(type(error), TypeError) or option(task, "batch_size") is not None:
        return None
    try:
        check_call(task, args, kwargs)
    except TypeError as unfit:
        unfit.__context__ = None  # ``error``, which says the same from inside the worker
        return unfit.with_traceback(None)
    return None


def _nothing() -> None:
    """Be the body of each function that is only called for its arguments."""


@lru_cache(maxsize=MOST_REMEMBERED)
def _without_body(func: FunctionType) -> Callable[..., None]:
    theirs, ours = func.__code__, _nothing.__code__
    taken = theirs.co_flags & (CO_VARARGS | CO_VARKEYWORDS)
    number = theirs.co_argcount + theirs.co_kwonlyargcount + taken.bit_count()
    code = ours.replace(
        co_argcount=theirs.co_argcount,
        co_posonlyargcount=theirs.co_posonlyargcount,
        co_kwonlyargcount=theirs.co_kwonlyargcount,
        co_varnames=theirs.co_varnames[:number],
        co_nlocals=number,
        co_flags=ours.co_flags | taken,
        co_name=theirs.co_name,
        co_qualname=theirs.co_qualname,
    )
    made = FunctionType(code, {}, func.__name__, func.__defaults__)
    made.__qualname__ = func.__qualname__  # which Python names in its sentence
    made.__kwdefaults__ = func.__kwdefaults__
    return _demanding_secrets(made, func) if secret_parameters(func) else made


def _demanding_secrets(made: Callable[..., None], func: FunctionType) -> Callable[..., None]:
    def call(*args: Any, **kwargs: Any) -> None:
        made(*args, **kwargs)
        check_secrets(func, args, kwargs)

    return call
