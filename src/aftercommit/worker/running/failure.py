"""Turns an exception into text that every database can store."""

import traceback

from aftercommit.values import RunError

LONGEST_TRACEBACK = 64 * 1024  # characters, three quarters of them from its end
HEAD = 16 * 1024
LONGEST_CLASS_PATH = 255
# Rows outlive the layout: Cancel and its kind are stored by their public path.
PUBLIC = {"aftercommit.enqueue.outcomes": "aftercommit"}
UNPRINTABLE = "(the exception cannot be printed: its __str__ or its traceback raises)"


def run_error(exception: BaseException) -> RunError:
    """Describe why a run failed; an ``Exception`` while describing it is not raised.

    The middle of a long traceback is cut out. NUL and lone surrogates stay: they are stored
    as JSON escapes.
    """
    try:
        text = "".join(traceback.format_exception(exception))
    except Exception:
        text = UNPRINTABLE
    return RunError(exception_class_path=class_path(type(exception)), traceback=_cut(text))


def class_path(cls: type) -> str:
    """Return the dotted path of a class, cut to the length of its column."""
    module = PUBLIC.get(cls.__module__, cls.__module__)
    return f"{module}.{cls.__qualname__}"[:LONGEST_CLASS_PATH]


def _cut(text: str) -> str:
    if len(text) <= LONGEST_TRACEBACK:
        return text
    tail = LONGEST_TRACEBACK - HEAD
    return f"{text[:HEAD]}\n... {len(text) - LONGEST_TRACEBACK:,} characters ...\n{text[-tail:]}"
