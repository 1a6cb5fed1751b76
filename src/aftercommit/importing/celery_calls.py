"""Reads messages of Celery's protocol 2, from whichever broker; pickle is never loaded."""

import json
from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aftercommit.importing.values import Message

BEHIND_IT = ("callbacks", "errbacks", "chain", "chord")


def message_of(
    envelope: Mapping[str, Any],
    *,
    key: str,
    raw: Any,
    unfit: str | None = None,
    priority: int | None = None,
) -> Message:
    """Return what a message says: its ``headers``, ``content-type`` and ``body``.

    ``unfit``: why it cannot become a job, whatever it says.
    """
    headers = object_of(envelope.get("headers"))
    task = headers.get("task")
    if not isinstance(task, str):
        return Message(
            key=key,
            task="(unknown)",
            unfit="it is no message of Celery's protocol 2",
            raw=raw,
        )
    call = _call(envelope)
    try:
        unfit = unfit or _unfit(envelope, headers, call)
    except RecursionError:
        unfit = "its arguments are nested too deeply"
    args, kwargs, _behind = ([], {}, {}) if unfit or call is None else call
    eta = headers.get("eta")
    return Message(
        key=key,
        task=task,
        args=list(args),
        kwargs=dict(kwargs),
        priority=priority,
        run_after=None if unfit or not eta else datetime.fromisoformat(eta),
        unfit=unfit,
        raw=raw,
    )


def object_of(value: Any) -> dict[str, Any]:
    """Return what should be an object of JSON; an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def _call(envelope: Mapping[str, Any]) -> list[Any] | None:
    """Return the three parts of a body of JSON; None for any other, which is not read."""
    if envelope.get("content-type") != "application/json":
        return None
    encoding = object_of(envelope.get("properties")).get("body_encoding")
    try:
        body = envelope["body"]
        found = json.loads(b64decode(body) if encoding == "base64" else body)
        args, kwargs, behind = found
    except (KeyError, TypeError, ValueError, RecursionError):
        return None
    whole = isinstance(args, list) and isinstance(kwargs, dict) and isinstance(behind, dict)
    return found if whole else None


def _unfit(
    envelope: Mapping[str, Any], headers: dict[str, Any], call: list[Any] | None
) -> str | None:
    """Return why a message cannot become a job."""
    if headers.get("compression"):
        return "it is compressed"
    if call is None:
        kind = envelope.get("content-type")
        return f"its arguments are no JSON, which alone is loaded, but {kind!r}"
    if any(call[2].get(name) for name in BEHIND_IT):
        return "a chain, a chord or a callback waits for it"
    if headers.get("expires"):
        return "it has an expiry, which a job has not"
    if _has_types(call[:2]):
        return "an argument is no JSON of its own, but a value that kombu wraps (a date, a UUID)"
    return _unfit_eta(headers.get("eta"))


def _unfit_eta(eta: Any) -> str | None:
    try:
        aware = not eta or datetime.fromisoformat(eta).tzinfo is not None
    except (TypeError, ValueError):
        aware = False
    return None if aware else "its eta is no moment with a time zone"


def _has_types(value: Any) -> bool:
    if isinstance(value, dict):
        return "__type__" in value or any(map(_has_types, value.values()))
    return isinstance(value, list) and any(map(_has_types, value))
