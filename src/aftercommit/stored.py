"""Reads the texts of a row, whatever somebody else has written there."""

import json
from typing import Any

from aftercommit.errors import Unreadable

SECRETS = "secrets"  # of a payload: its encrypted arguments, see enqueue.sealing
VERSION_MARK = "@"  # no name of a task has it
LONGEST_SHOWN = 1000  # characters of a text that is not JSON
UNREADABLE = "aftercommit.errors.Unreadable"


def versioned(name: str, version: int) -> str:
    """Return the name under which calls of a version of a task are stored."""
    return name if version == 1 else f"{name}{VERSION_MARK}{version}"


def name_and_version(task_path: str) -> tuple[str, int]:
    """Return the name of the task in a row, and the version whose arguments the row has."""
    name, mark, number = task_path.rpartition(VERSION_MARK)
    if mark and name and number.isascii() and number.isdigit():
        return name, int(number)
    return task_path, 1


def without_version(task_path: str) -> str:
    """Return the name of the task in a row."""
    return name_and_version(task_path)[0]


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


def loaded_secrets(payload: Any) -> Any:
    """Return the encrypted secrets of a payload; None if it has none, or cannot be read."""
    if f'"{SECRETS}":' not in str(payload):  # mostly
        return None
    try:
        loaded = json.loads(payload)
    except (TypeError, ValueError, RecursionError):
        return None
    return loaded.get(SECRETS) if isinstance(loaded, dict) else None


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


def read_headers(text: Any) -> dict[str, str]:
    """Return the headers of a job; none if they cannot be read."""
    if text is None:  # mostly
        return {}
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def read_errors(text: Any) -> list[dict[str, Any]]:
    """Return one entry for each failed run: its class path, traceback and worker.

    Most also have ``claimed_at``, when it began, and ``took``, the seconds of its body.

    An entry that cannot be read is shown as one of ``Unreadable``, so nothing is hidden.
    """
    try:
        entries = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        entries = [text]
    return [_entry(one) for one in (entries if isinstance(entries, list) else [entries])]


def _entry(found: Any) -> dict[str, Any]:
    names = ("exception_class_path", "traceback", "worker_id")
    if isinstance(found, dict) and all(isinstance(found.get(name), str) for name in names):
        entry = {name: found[name] for name in names}
        for name, kind in (("claimed_at", str), ("took", (int, float))):
            if isinstance(found.get(name), kind):
                entry[name] = found[name]
        return entry
    text = f"This entry cannot be read: {str(found)[:LONGEST_SHOWN]}"
    return {"exception_class_path": UNREADABLE, "traceback": text, "worker_id": "None"}
