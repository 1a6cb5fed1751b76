"""Reads messages of Dramatiq as its JSONEncoder writes them, from whichever broker."""

import json
from datetime import UTC, datetime
from typing import Any

from aftercommit.importing.values import Message

DELAYED = ".DQ"  # the end of the name of a queue of delayed messages
BEHIND_IT = (
    *("pipe_target", "group_callbacks", "group_completion_uuid"),
    *("on_success", "on_failure"),
)


def message_of(text: bytes, *, key: str, raw: Any, priority: int | None = None) -> Message:
    """Return what a message says."""
    try:
        said = json.loads(text)
        name, args, kwargs = said["actor_name"], list(said["args"]), dict(said["kwargs"])
        options = dict(said["options"])
    except (KeyError, TypeError, ValueError, RecursionError):
        unfit = "it is no JSON as JSONEncoder writes it, which alone is loaded"
        return Message(key=key, task="(unknown)", unfit=unfit, raw=raw)
    return Message(
        key=key,
        task=str(name),
        args=args,
        kwargs=kwargs,
        priority=priority,
        run_after=_moment(options.get("eta")),
        unfit=_unfit(options),
        raw=raw,
    )


def _unfit(options: dict[str, Any]) -> str | None:
    if any(options.get(one) for one in BEHIND_IT):
        return "a pipeline, a group or a callback waits for it"
    if options.get("max_age"):
        return "it has a max_age, which a job has not"
    return None


def _moment(eta: Any) -> datetime | None:
    return datetime.fromtimestamp(eta / 1000, UTC) if isinstance(eta, (int, float)) else None
