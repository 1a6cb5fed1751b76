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
        return [{"args": content["args"], "kwargs": content.get("kwargs")}]
    publishes = content.get("publishes")  # Celery's messages
    sent = publishes if isinstance(publishes, list) else []
    stored = [one.get("body") for one in sent if isinstance(one, Mapping)]
    stored += [content.get(name) for name in BODIES]
    values = []
    for body in stored:
        text = body.get("text") if isinstance(body, Mapping) else None
        with suppress(ValueError, RecursionError):
            values.append(json.loads(text if isinstance(text, str) else ""))
    return values
