"""Formats that a project's LOGGING may name: lines of JSON, and lines with their traceback.

Nothing here needs an app or a model: LOGGING is read before them.
"""

import json
import logging
from datetime import UTC, datetime
from typing import Any

from aftercommit.printable import INDENT, lines, without_passwords

# What every record has; everything else was given to it by ``extra``.
_STANDARD = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}


class JSONFormatter(logging.Formatter):
    """One line of JSON for each record: time, level, logger, message, and its fields.

    The fields are those that a record was given by ``extra``, under their own names. What JSON
    does not have is written as text.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON; the text of a traceback is the field ``traceback``."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            told["traceback"] = without_passwords(record.exc_text)
        for name, value in vars(record).items():
            if name not in _STANDARD and not name.startswith("_"):
                told.setdefault(name, value)
        return json.dumps(told, default=_as_text)


class WithTraceback(logging.Formatter):
    """Django's and Python's format, with the traceback of a run that has failed below the line.

    The lines of aftercommit carry it as a field, so that one end of a run is one line.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, and the traceback indented below it."""
        line, below = super().format(record), getattr(record, "traceback", None)
        if not isinstance(below, str) or not below:
            return line
        text = lines(without_passwords(below)).rstrip("\n").replace("\n", f"\n{INDENT}")
        return f"{line}\n{INDENT}{text}"


def _as_text(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return f"(a {type(value).__name__} that cannot be printed)"
