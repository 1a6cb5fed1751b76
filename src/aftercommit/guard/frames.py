"""Where code stands: which frames of a stack are the project's, and how they are written."""

import contextlib
import os
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType

OURS = str(Path(__file__).parent.parent) + os.sep  # of this package: never the place of a finding
LIBRARIES = tuple(
    path + os.sep
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
    if (path := sysconfig.get_path(name))
)
INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
CONTEXTLIB = contextlib.__file__
MOST = 12  # frames that are kept of where a transaction was opened
SHOWN = 6  # frames of the project that a message shows of one stack

Step = tuple[CodeType, int]  # the code of a frame, and the offset of its instruction


@dataclass(frozen=True, slots=True)
class Place:
    """A line of code."""

    path: str
    line: int
    function: str

    @property
    def is_project(self) -> bool:
        """Return whether it belongs to the project, not to an installed library."""
        return is_project(self.path)

    def __str__(self) -> str:
        return f"{shown(self.path)}:{self.line} in {self.function}"


def steps(frame: FrameType | None, most: int = MOST) -> list[Step]:
    """Return a stack, the innermost first. Cheap: lines are looked up by ``places``."""
    found: list[Step] = []
    while frame is not None and len(found) < most:
        found.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return found


def places(stack: Iterable[Step]) -> tuple[Place, ...]:
    """Return the lines of a stack, without those of this package and of contextlib."""
    return tuple(
        Place(code.co_filename, _line(code, offset), code.co_qualname)
        for code, offset in stack
        if not code.co_filename.startswith(OURS) and code.co_filename != CONTEXTLIB
    )


def projects(stack: Sequence[Place]) -> tuple[Place, ...]:
    """Return the places of the project; all, if there is none."""
    found = tuple(one for one in stack if one.is_project)
    return (found or tuple(stack))[:SHOWN]


def _line(code: CodeType, offset: int) -> int:
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            return line
    return code.co_firstlineno


@lru_cache(maxsize=4096)
def is_project(path: str) -> bool:
    """Return whether a file is the project's."""
    return not (path.startswith((*LIBRARIES, OURS, "<")) or any(one in path for one in INSTALLED))


@lru_cache(maxsize=4096)
def shown(path: str) -> str:
    """Return a path as it is seen from the current directory, or below site-packages."""
    for one in INSTALLED:
        if one in path:
            return path.rpartition(one)[2]
    here = os.getcwd() + os.sep
    return path.removeprefix(here)
