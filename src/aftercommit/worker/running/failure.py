"""Turns an exception into text that every database can store."""

import traceback

from aftercommit.printable import without_passwords
from aftercommit.values import RunError
from aftercommit.worker.place import from_the_users_frame, place_of

LONGEST_TRACEBACK = 64 * 1024  # characters, three quarters of them from its end
HEAD = 16 * 1024
LONGEST_MESSAGE = 1000  # characters, in the log
LONGEST_CLASS_PATH = 255
# Rows outlive the layout: Cancel and its kind are stored by their public path.
PUBLIC = {"aftercommit.enqueue.outcomes": "aftercommit"}
NO_TEXT = "<unknown>"
# Not cls.__module__: a metaclass of the project may raise.
TRACEBACK = BaseException.__dict__["__traceback__"]
MODULE, QUALNAME = type.__dict__["__module__"], type.__dict__["__qualname__"]
UNPRINTABLE = "(the exception cannot be printed: its __str__ or its traceback raises)"


class Unreadable(Exception):
    """Stands in for an exception of a task that raises when it is looked at.

    Receivers of signals and log handlers get this one, because they would raise as well.
    """

    def __init__(self, error: BaseException) -> None:
        self.path = class_path(type(error))
        super().__init__(f"{self.path} {UNPRINTABLE}")


def readable(error: BaseException) -> BaseException:
    """Return the exception, or what stands in for it."""
    unreadable = run_error(error).traceback == UNPRINTABLE
    return Unreadable(error) if unreadable else error


def is_a(error: BaseException, kinds: type | tuple[type, ...]) -> bool:
    """Return ``isinstance(error, kinds)``, by the class and not by ``__class__``.

    That may be a property of the task's exception which raises.
    """
    return issubclass(type(error), kinds)


def parts_of(error: BaseException) -> list[BaseException]:
    """Return the exceptions in a group, also in nested groups; else the exception itself."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if issubclass(type(one), BaseExceptionGroup):
            waiting += reversed(BaseExceptionGroup.exceptions.__get__(one))
        else:
            found.append(one)
    return found


def has_a(error: BaseException, kinds: type | tuple[type, ...]) -> bool:
    """Return whether an exception is of these classes, or one in its group is."""
    return any(is_a(one, kinds) for one in parts_of(error))


def run_error(exception: BaseException) -> RunError:
    """Describe why a run failed; never raises, whatever the exception does.

    The middle of a long traceback is cut out. NUL and lone surrogates stay: they are stored
    as JSON escapes. Passwords in addresses are hidden: people without access to the settings
    read this.
    """
    if type(exception) is Unreadable:
        return RunError(exception_class_path=exception.path, traceback=UNPRINTABLE)
    found = from_the_users_frame(TRACEBACK.__get__(exception))
    try:
        lines = traceback.format_exception(type(exception), exception, found)
        text = without_passwords("".join(lines))
    except BaseException:
        text = UNPRINTABLE
    return RunError(
        exception_class_path=class_path(type(exception)),
        traceback=_cut(text),
        message=_message(exception),
        place=place_of(found),
    )


def _message(exception: BaseException) -> str:
    """Return what the exception says; its notes, and the rest of a long text, are left out."""
    try:
        text = without_passwords(str(exception)[: 2 * LONGEST_MESSAGE])
    except BaseException:
        return UNPRINTABLE
    return text if len(text) <= LONGEST_MESSAGE else f"{text[:LONGEST_MESSAGE]}…"


def class_path(cls: type) -> str:
    """Return the dotted path of a class, cut to the length of its column."""
    try:
        module = _text(MODULE.__get__(cls))
    except AttributeError:  # made by code that has no __name__
        module = NO_TEXT
    name = _text(QUALNAME.__get__(cls))
    return f"{PUBLIC.get(module, module)}.{name}"[:LONGEST_CLASS_PATH]


def _text(value: object) -> str:
    """Return the characters of a text, whatever its class overrides."""
    return str.__str__(value) if issubclass(type(value), str) else NO_TEXT


def _cut(text: str) -> str:
    if len(text) <= LONGEST_TRACEBACK:
        return text
    tail = LONGEST_TRACEBACK - HEAD
    return f"{text[:HEAD]}\n... {len(text) - LONGEST_TRACEBACK:,} characters ...\n{text[-tail:]}"
