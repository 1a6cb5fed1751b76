"""Makes text safe to show: one line stays one line, and passwords in addresses are hidden."""

import logging
import re
from typing import Any

# What moves the cursor, ends a line, or turns the direction of what follows: C0, DEL and C1
# controls, line and paragraph separators, marks and overrides of direction. And lone surrogates,
# which no log file can hold.
_CONTROLS = re.compile(
    "[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ufeff\ud800-\udfff]"
)
# "scheme://user:" before a password, which may itself contain "@", "/" and quotes. Not the port
# of an address, and nothing after a quote that ends it, or in the next address of a list. The
# lengths are bounded, so that the time grows with the text and no faster.
_PASSWORD = re.compile(
    r"""(://(?::|[^\s:/?#'"]{1,100}:(?!\d{1,5}[/?#])))"""
    r"""(?:[^\s'",;|]|['"](?![\s,;:)\]}]|$)|[,;|](?![a-zA-Z][\w+.-]{0,20}://)){1,200}@"""
)
INDENT = "  "  # of the lines of a traceback
_STANDARD = logging.Formatter()


class Lines(str):
    """Text whose line breaks are meant: ``one_line`` leaves it as it is."""

    __slots__ = ()


def one_line(text: str) -> str:
    """Return ``text`` with its control characters as escapes, ``\\n`` for a line break."""
    return _CONTROLS.sub(_escaped, text)


def lines(text: str) -> str:
    """Return ``text`` with its control characters as escapes, but for line breaks and tabs."""
    return _CONTROLS.sub(lambda one: one[0] if one[0] in "\n\t" else _escaped(one), text)


def without_passwords(text: str) -> str:
    """Return ``text`` with ``***`` for each password in an address."""
    return _PASSWORD.sub(r"\1***@", text) if "://" in text else text


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]


class ReadableParts(logging.Filter):
    """Escapes the control characters in the parts of a message, and hides passwords.

    A part may come from a row or from an exception: its line breaks would forge log lines,
    its ANSI escapes would change the terminal of who reads them. The message of an exception may
    have lines of its own, so those of a traceback are indented: the log begins none of them.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Change the parts that need it; the others stay the objects that they are."""
        if isinstance(record.args, tuple):
            record.args = tuple(map(_readable, record.args))
        if record.exc_info and not record.exc_text:  # which formatters take if it is there
            record.exc_text = _traceback(record.exc_info)
        return True


class ReadableLog(logging.Formatter):
    """The format of the log on the terminal: without control characters in tracebacks either."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message, and the lines of its traceback."""
        return lines(without_passwords(super().format(record)))

    def formatException(self, ei: Any) -> str:
        """Return the traceback with its lines indented."""
        return _traceback(ei)


def make_readable(logger: logging.Logger) -> None:
    """Escape what would forge a line of this log; calling it twice changes nothing."""
    if not any(isinstance(one, ReadableParts) for one in logger.filters):
        logger.addFilter(ReadableParts())


def _traceback(exc_info: Any) -> str:
    try:
        text = lines(without_passwords(_STANDARD.formatException(exc_info)))
    except (Exception, SystemExit):  # which its __str__ may raise
        text = "(an exception that cannot be printed)"
    return INDENT + text.replace("\n", f"\n{INDENT}")


def _readable(part: Any) -> Any:
    if part is None or isinstance(part, (int, float)):
        return part
    try:
        text = str(part)
    except Exception:
        return f"(a {type(part).__name__} that cannot be printed)"
    escaped = lines(text) if isinstance(part, Lines) else one_line(text)
    hidden = without_passwords(escaped)
    return part if hidden == text else hidden
