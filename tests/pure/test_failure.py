"""An exception becomes text, whatever it contains."""

import pytest

from aftercommit.values import RunError
from aftercommit.worker.running.failure import (
    LONGEST_CLASS_PATH,
    LONGEST_TRACEBACK,
    UNPRINTABLE,
    class_path,
    run_error,
)

MANY = 50 * 1024 * 1024  # characters


def raised(exception):
    """Return the exception after it was raised, so that it has a traceback."""
    try:
        raise exception
    except BaseException as error:
        return error


def test_class_and_traceback_are_told():
    error = run_error(raised(ValueError("no such user")))

    assert error.exception_class_path == "builtins.ValueError"
    assert error.traceback.startswith("Traceback (most recent call last):")
    assert error.traceback.endswith("ValueError: no such user\n")


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("even its text fails")


class Unutterable(Exception):
    def __str__(self):
        raise KeyboardInterrupt


class WrongNotes(Exception):
    __notes__ = 42


class RaisingNotes(Exception):
    @property
    def __notes__(self):
        raise RuntimeError("even its notes fail")


@pytest.mark.parametrize("poison", [Unspeakable, Unutterable, WrongNotes, RaisingNotes])
def test_an_exception_that_cannot_be_printed_is_told_by_its_class(poison):
    error = run_error(raised(poison()))

    assert error.exception_class_path == f"{__name__}.{poison.__name__}"
    assert error.traceback


def test_an_exception_whose_traceback_cannot_be_formatted_still_has_its_class():
    poison = SyntaxError("no line")
    poison.lineno, poison.text = 1, object()

    error = run_error(raised(poison))

    assert error.exception_class_path == "builtins.SyntaxError"
    assert error.traceback == UNPRINTABLE


def test_a_long_chain_of_causes_is_told():
    last = None
    for number in range(5000):
        error = ValueError(f"number {number}")
        error.__cause__ = last
        last = error

    assert run_error(raised(last)).traceback


def test_a_long_message_is_cut_in_its_middle():
    error = run_error(raised(ValueError("begin" + "x" * MANY + "end")))

    assert len(error.traceback) < LONGEST_TRACEBACK + 100
    assert "begin" in error.traceback
    assert "characters ..." in error.traceback
    assert error.traceback.endswith("end\n")


def test_a_traceback_of_the_longest_length_is_whole():
    message = "x" * (LONGEST_TRACEBACK - len("ValueError: \n"))

    error = run_error(ValueError(message))

    assert error.traceback == f"ValueError: {message}\n"


def test_causes_in_a_circle_end():
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first

    error = run_error(raised(first))

    assert "first" in error.traceback
    assert "second" in error.traceback


def test_a_group_names_its_members():
    group = ExceptionGroup(
        "both", [ValueError("one"), ExceptionGroup("deep", [TypeError("two")])]
    )

    error = run_error(raised(group))

    assert error.exception_class_path == "builtins.ExceptionGroup"
    assert "one" in error.traceback
    assert "two" in error.traceback


def test_endless_recursion_is_short_to_tell():
    def deeper():
        deeper()

    with pytest.raises(RecursionError) as caught:
        deeper()

    error = run_error(caught.value)

    assert error.exception_class_path == "builtins.RecursionError"
    assert "more times" in error.traceback


@pytest.mark.parametrize("kind", [MemoryError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_what_is_no_ordinary_exception_is_told_as_well(kind):
    error = run_error(raised(kind()))

    assert error.exception_class_path == f"builtins.{kind.__name__}"


def test_nul_and_lone_surrogates_stay():
    assert "a\0b\ud800c" in run_error(raised(ValueError("a\0b\ud800c"))).traceback


def test_a_class_path_is_cut_to_what_the_column_holds():
    long = type("X" * 1000, (Exception,), {})

    assert len(class_path(long)) == LONGEST_CLASS_PATH


def test_a_run_error_is_a_value():
    assert run_error(ValueError("x")) == RunError(
        exception_class_path="builtins.ValueError", traceback="ValueError: x\n", message="x"
    )
