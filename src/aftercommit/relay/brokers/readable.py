"""The readable part of a message: its arguments, if they are JSON."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

BODIES = ("body", "task")  # the fields with the bytes of Dramatiq and Huey


def readable(content: Mapping[str, Any]) -> list[Any]:
    """Return the arguments in a message that are JSON, and no others.

    Only the arguments: Celery's headers and RQ's description repeat them as text, even if
    they were pickled.
    """
    if "args" in content:  # of another backend of django.tasks: JSON by its contract
        return [{"args": content["args"], "kwargs": content["kwargs"]}]
    stored = [one["body"] for one in content.get("publishes", ())]  # Celery's messages
    stored += [content[name] for name in BODIES if name in content]
    values = []
    for body in stored:
        with suppress(ValueError):
            values.append(json.loads(body.get("text", "")))
    return values
