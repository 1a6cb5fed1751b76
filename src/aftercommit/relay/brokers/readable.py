"""What people may read of a message: its arguments, if the library made JSON of them."""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

BODIES = ("body", "task")  # where Dramatiq's and Huey's bytes are


def readable(content: Mapping[str, Any]) -> list[Any]:
    """Return the arguments in a message that are JSON; none of those that are not.

    Only the arguments: Celery's headers and RQ's description repeat them as text, whatever
    they were serialised with.
    """
    if "args" in content:  # of another backend of django.tasks, which takes JSON only
        return [{"args": content["args"], "kwargs": content["kwargs"]}]
    stored = [one["body"] for one in content.get("publishes", ())]  # Celery's
    stored += [content[name] for name in BODIES if name in content]
    values = []
    for body in stored:
        with suppress(ValueError):
            values.append(json.loads(body.get("text", "")))
    return values
