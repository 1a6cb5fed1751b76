"""Reads the JSON texts of a row, whatever somebody else has written there."""

import json
from typing import Any

from aftercommit.errors import Unreadable

LONGEST_SHOWN = 1000  # characters of a text that is not JSON
UNREADABLE = "aftercommit.errors.Unreadable"


def read_json(text: Any, what: str) -> Any:
    """Return the value of a JSON text.

    Raises ``Unreadable`` if there is none, or if it is too large or too deep for Python.
    """
    try:
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise Unreadable(what=what, problem=str(error)) from error


def read_arguments(payload: Any) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a job; raises ``Unreadable`` if they are no arguments."""
    loaded = read_json(payload, "arguments")
    if not isinstance(loaded, dict):
        raise Unreadable(what="arguments", problem=f"expected an object, got {loaded!r:.100}")
    args, kwargs = loaded.get("args"), loaded.get("kwargs")
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise Unreadable(
            what="arguments", problem="expected a list of args and an object of kwargs"
        )
    return args, kwargs


def read_tags(text: Any) -> list[str]:
    """Return the tags of a job; what is no list of texts is shown as one."""
    if text is None:
        return []
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        found = None
    readable = isinstance(found, list) and all(isinstance(one, str) for one in found)
    return found if readable else [str(text)[:LONGEST_SHOWN]]


def read_errors(text: Any) -> list[dict[str, str]]:
    """Return one entry for each failed run: its class path, traceback and worker.

    An entry that cannot be read is shown as one of ``Unreadable``, so nothing is hidden.
    """
    try:
        entries = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        entries = [text]
    return [_entry(one) for one in (entries if isinstance(entries, list) else [entries])]


def _entry(found: Any) -> dict[str, str]:
    names = ("exception_class_path", "traceback", "worker_id")
    if isinstance(found, dict) and all(isinstance(found.get(name), str) for name in names):
        return {name: found[name] for name in names}
    text = f"This entry cannot be read: {str(found)[:LONGEST_SHOWN]}"
    return {"exception_class_path": UNREADABLE, "traceback": text, "worker_id": "None"}
