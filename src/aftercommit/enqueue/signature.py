"""Whether a call fits the function of its task, said in Python's own words.

``inspect.Signature.bind()`` has words of its own, and takes microseconds. So a function without
a body, which takes the same arguments, is called instead.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from inspect import CO_VARARGS, CO_VARKEYWORDS
from types import FunctionType
from typing import Any

from aftercommit.enqueue.registry import option

MOST_REMEMBERED = 4096  # functions of tasks


def check_call(task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Refuse arguments that the function of a task does not take.

    Raises ``TypeError``, as calling the function would. Only what a function itself declares is
    looked at: a decorator around it may pass on more, or less. What is no plain function (a
    callable object, one in C) is let through.
    """
    func = task.func
    if type(func) is FunctionType:
        if task.takes_context:
            _without_body(func)(None, *args, **kwargs)
        else:
            _without_body(func)(*args, **kwargs)


def check_calls(task: Any, calls: Iterable[tuple[Sequence[Any], Mapping[str, Any]]]) -> None:
    """Do the same for many calls, and look at the function once."""
    func = task.func
    if type(func) is not FunctionType:
        return
    call, context = _without_body(func), (None,) if task.takes_context else ()
    for args, kwargs in calls:
        call(*context, *args, **kwargs)


def misfit(
    error: BaseException, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]
) -> TypeError | None:
    """Return why a call that has raised ``error`` does not fit its function; None if it does.

    If it does not, the function has not begun, and never would. A task that runs several jobs in
    one call is called in another way.
    """
    if not issubclass(type(error), TypeError) or option(task, "many") is not None:
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
    return made
