"""The headers of a job: small texts about its enqueuer, written by functions of the project.

They travel with the job and are no arguments of its task: the trace that it continues, the
tenant or the request that it comes from. Whoever has no such function calls nothing of this.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, TypeVar

from aftercommit.errors import ConfigurationError, PayloadError, PayloadTooLarge
from aftercommit.middleware import Enqueuing
from aftercommit.options.checked import shown
from aftercommit.options.conf import BackendOptions
from aftercommit.options.functions import imported
from aftercommit.values import NewJob, NewJobs, Together

LARGEST = 16 * 1024  # bytes of all headers of a job; a baggage alone may have 8 KiB
LONGEST_NAME = 100  # characters
Answer = TypeVar("Answer")
Writer = Callable[[Enqueuing], Any]  # returns a mapping, a context manager of one, or None


class HeaderWriters:
    """The functions of a backend that write headers, in the order in which they are called."""

    def __init__(self, options: BackendOptions) -> None:
        factories = imported("middleware", options.middleware)
        attached = (getattr(one, "headers", None) for one in factories)
        self._writers: list[Writer] = [
            *imported("headers", options.headers),
            *(one for one in attached if one is not None),
        ]
        # Of the functions that say so, the names of headers that make a unique job another one.
        self._distinguish = [
            name for one in self._writers for name in getattr(one, "distinguish", ())
        ]

    def __bool__(self) -> bool:
        return bool(self._writers)

    def enter(self, stack: ExitStack, enqueuing: Enqueuing) -> "Written | None":
        """Return the headers of a call, and enter the context managers that write them.

        What a function raises is raised, and nothing is inserted: a job without its tenant
        would be worse than none. The same goes for what cannot be stored.
        """
        headers: dict[str, str] = {}
        for writer in self._writers:
            given = writer(enqueuing)
            if hasattr(type(given), "__enter__"):
                given = stack.enter_context(given)
            if given is not None:
                headers.update(_checked(given, writer, enqueuing))
        return self._written(headers, enqueuing) if headers else None

    def _written(self, headers: dict[str, str], enqueuing: Enqueuing) -> "Written":
        text = json.dumps(headers, separators=(",", ":"))
        if len(text) > LARGEST:
            raise PayloadTooLarge(
                what="the headers", size=len(text), limit=LARGEST, task_path=enqueuing.name
            )
        return Written(text, {name: headers.get(name, "") for name in self._distinguish})


class Written:
    """The headers of one call, as they are stored."""

    def __init__(self, text: str, distinguishing: Mapping[str, str]) -> None:
        self.text = text
        self._distinguishing = distinguishing

    @property
    def headers(self) -> dict[str, str]:
        """The headers themselves."""
        found: dict[str, str] = json.loads(self.text)
        return found

    def into(self, job: NewJob) -> NewJob:
        """Return a job with these headers."""
        key = job.unique_key
        if key is not None and any(self._distinguishing.values()):
            key = self._apart(key)
        return replace(job, headers=self.text, unique_key=key)

    def into_all(self, jobs: Together) -> Together:
        """Do the same for jobs of one task."""
        if isinstance(jobs, NewJobs):
            return replace(jobs, like=self.into(jobs.like))
        return [self.into(one) for one in jobs]

    def _apart(self, key: str) -> str:
        """Return a unique key that only calls with the same headers have.

        The same task with the same arguments is other work for another tenant.
        """
        values = json.dumps(self._distinguishing, sort_keys=True)
        digest = hashlib.sha256(f"{key}\n{values}".encode()).hexdigest()
        return f"{key[: 255 - len(digest) - 1]}@{digest}"


def inside(write: Callable[[ExitStack], Answer]) -> Answer:
    """Return what ``write`` returns, which enters the context managers of a call."""
    with ExitStack() as stack:
        return write(stack)
    # A context manager has swallowed what the INSERT has raised.
    raise ConfigurationError(
        "A context manager that writes headers has suppressed an exception of enqueue(). "
        "Whether the job was inserted is not known. Let its __exit__() return False."
    )


def _checked(given: Any, writer: Writer, enqueuing: Enqueuing) -> Mapping[str, str]:
    if not isinstance(given, Mapping):
        name = getattr(writer, "__qualname__", repr(writer))
        raise ConfigurationError(
            f"{name}() writes headers, and has returned {shown(given)}. Nothing was enqueued. "
            "Return a dict of texts, or nothing."
        )
    for name, value in given.items():
        if problem := _problem(name, value):
            raise PayloadError(
                path=f"headers[{name!r}]", problem=problem, task_path=enqueuing.name
            )
    return given


def _problem(name: object, value: object) -> str:
    if not isinstance(name, str) or not name.isprintable() or not 1 <= len(name) <= LONGEST_NAME:
        return f"a header's name is a text of 1 to {LONGEST_NAME} printable characters"
    return "" if isinstance(value, str) else f"a header is a text, and not {shown(value)}"


def jobs_in(jobs: Together) -> Sequence[str]:
    """Return the ids of jobs."""
    return list(jobs.ids) if isinstance(jobs, NewJobs) else [str(one.id) for one in jobs]
