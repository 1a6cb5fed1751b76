"""Show the code that runs, read from the code that runs."""

import inspect
from collections.abc import Callable
from typing import Any


def source_of(*parts: Callable[..., Any]) -> str:
    """Return the source of functions and tasks, one below the other."""
    return "\n\n".join(_source_of(part) for part in parts)


def _source_of(part: Any) -> str:
    # A task is an object that holds its function.
    return inspect.getsource(getattr(part, "func", part)).rstrip()
