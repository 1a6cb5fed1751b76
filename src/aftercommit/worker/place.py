"""Where in the project's own code an exception was raised."""

import os.path
import sys
import sysconfig
from functools import lru_cache
from types import FrameType, TracebackType

# What lies between the worker and the function of a task, also of an async one.
MACHINERY = ("aftercommit", "asgiref", "asyncio", "concurrent", "contextlib", "threading")
TASKS = ("django.tasks", "django_tasks")
INSTALLED = ("site-packages", "dist-packages")
LIBRARIES = tuple(
    f"{sysconfig.get_path(one)}{os.sep}" for one in ("stdlib", "platstdlib", "purelib", "platlib")
)
MOST_FILES = 4096


def from_the_users_frame(found: TracebackType | None) -> TracebackType | None:
    """Return the part of a traceback that begins with the function of the task.

    All of it, if nothing but the worker is in it.
    """
    part = found
    while part is not None and _is_machinery(part.tb_frame):
        part = part.tb_next
    return part or found


def place_of(found: TracebackType | None) -> str:
    """Return ``file:line in function`` of the last frame that is the project's own.

    Of the last frame at all, if none is; an empty text if there is none.
    """
    last = own = found
    is_found = False
    while found is not None:
        last = found
        if _is_own(found.tb_frame):
            own, is_found = found, True
        found = found.tb_next
    one = own if is_found else last
    if one is None:
        return ""
    code = one.tb_frame.f_code
    return f"{_short(code.co_filename)}:{one.tb_lineno} in {code.co_name}"


def _module(frame: FrameType) -> str:
    name = frame.f_globals.get("__name__")
    return name if type(name) is str else ""


def _is_machinery(frame: FrameType) -> bool:
    name = _module(frame)
    return name.partition(".")[0] in MACHINERY or name.startswith(TASKS)


def _is_own(frame: FrameType) -> bool:
    return _module(frame).partition(".")[0] != MACHINERY[0] and _is_of_project(
        frame.f_code.co_filename
    )


@lru_cache(maxsize=MOST_FILES)
def _is_of_project(file: str) -> bool:
    # "<frozen importlib>", "<string>": no file of anybody.
    installed = not set(INSTALLED).isdisjoint(file.split(os.sep))
    return not (installed or file.startswith("<") or file.startswith(LIBRARIES))


@lru_cache(maxsize=MOST_FILES)
def _short(file: str) -> str:
    """Return the path of a file below the folder from which it is imported."""
    above = [one for one in sys.path if one and file.startswith(f"{one.rstrip(os.sep)}{os.sep}")]
    longest = max(above, key=len, default="")
    return file[len(longest.rstrip(os.sep)) + 1 :] if longest else file
