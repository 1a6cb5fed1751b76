"""An exception becomes text that every database can store, whatever it contains."""

import traceback

from aftercommit.values import RunError

LONGEST_TRACEBACK = 64 * 1024  # characters, about two thirds of them from its end
HEAD = 16 * 1024
LONGEST_CLASS_PATH = 255
UNPRINTABLE = "(the exception cannot be printed: its __str__ or its traceback raises)"


def run_error(exception: BaseException) -> RunError:
    """Describe why a run failed; never raises for an ``Exception`` of the description.

    The traceback is cut in its middle. NUL and lone surrogates stay: they are stored as
    JSON escapes.
    """
    try:
        text = "".join(traceback.format_exception(exception))
    except Exception:
        text = UNPRINTABLE
    return RunError(exception_class_path=class_path(type(exception)), traceback=_cut(text))


def class_path(cls: type) -> str:
    """Return the dotted path of a class, cut to what fits a column."""
    return f"{cls.__module__}.{cls.__qualname__}"[:LONGEST_CLASS_PATH]


def _cut(text: str) -> str:
    if len(text) <= LONGEST_TRACEBACK:
        return text
    tail = LONGEST_TRACEBACK - HEAD
    return f"{text[:HEAD]}\n... {len(text) - LONGEST_TRACEBACK:,} characters ...\n{text[-tail:]}"
