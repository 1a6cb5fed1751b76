"""Leases short enough to see their end: options of TASKS from the environment.

``AFTERCOMMIT_TEST_LEASE=0.6`` and its kind are set for worker processes that a test
starts; without them the options are what every project gets.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

PREFIX = "AFTERCOMMIT_TEST_"
SPANS = ("lease", "heartbeat", "poll_interval")  # in seconds
COUNTS = ("max_crashes",)
NAMES = ("task_modules",)  # with commas
FLAGS = ("session_locks",)  # "yes" or "no"


def options_from(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the options that the environment names."""
    given = {
        name: environment[variable]
        for name in (*SPANS, *COUNTS, *NAMES, *FLAGS)
        if (variable := PREFIX + name.upper()) in environment
    }
    return {name: _value(name, text) for name, text in given.items()}


def _value(name: str, text: str) -> Any:
    if name in SPANS:
        return timedelta(seconds=float(text))
    if name in COUNTS:
        return int(text)
    if name in NAMES:
        return tuple(text.split(","))
    return text == "yes"
