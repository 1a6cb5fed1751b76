"""What a library is asked to run, and what came of it."""

import reprlib
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import django
from django.db import models

OURS = str(Path(__file__).parents[1])
# Frames of these are no place of the project.
NOT_THEIRS = (
    *(OURS, str(Path(django.__file__).parent)),
    *("/contextlib.py", "/threading.py", "/unittest/", "/functools.py"),
    *("/site-packages/", "/dist-packages/", "/importlib/", "/concurrent/"),
)
MOST_FRAMES = 4
SHORT = reprlib.Repr()
SHORT.maxstring = SHORT.maxother = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch:
    """A task that was handed to its library."""

    name: str
    call: str  # with its arguments, for the report
    id: str
    run: Callable[[], Any] | None  # raises what the task raises; None: a database has the job
    where: tuple[str, ...]  # places of the project's code, the innermost first
    transaction: int | None  # the number of the transaction that was open, from 1
    after: int  # how many transactions had begun
    lineage: tuple[str, ...]  # names of the tasks that led to it, the body's dispatch first


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One run of a task."""

    name: str
    call: str
    error: str | None
    transaction: int | None  # see ``Dispatch``


def call_text(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return a call as it stands in code, shortened."""
    given = [_shown(one) for one in args or ()]
    given += [f"{key}={_shown(value)}" for key, value in (kwargs or {}).items()]
    return f"{name}({', '.join(given)})"


def _shown(value: Any) -> str:
    if isinstance(value, models.Model):
        return f"<{type(value).__name__} {value.pk}>"
    return SHORT.repr(value)


def places() -> tuple[str, ...]:
    """Return where in the project's code the caller is, the innermost place first."""
    found = [
        f"{_relative(frame.filename)}:{frame.lineno} in {frame.name}"
        for frame in reversed(traceback.extract_stack(limit=80))
        if frame.filename[0] != "<" and not any(one in frame.filename for one in NOT_THEIRS)
    ]
    return tuple(found[:MOST_FRAMES])


def error_text(error: BaseException) -> str:
    """Return an exception as one line."""
    return f"{type(error).__name__}: {error}".strip(": ").partition("\n")[0]


def _relative(name: str) -> str:
    path = Path(name)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else name
