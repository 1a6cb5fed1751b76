"""Puts results into the arguments of the job that has waited for them.

A job that is enqueued with calls as arguments has null in their places. Where each result goes is
kept with the edge, so nothing in the arguments of users can look like a place. How long the
arguments may become is kept in the payload until they are complete: whoever completes them does
not know the options of the backend.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from aftercommit.errors import PayloadTooLarge, Unreadable

LIMIT = "results_up_to"
_encode = json.JSONEncoder(separators=(",", ":")).encode  # json.dumps() would make one each time
WHAT = "the arguments, with the results of the jobs that it has waited for,"
Path = Sequence[str | int]  # ("args", 0, "prices", 3)


def with_limit(payload: str, limit: int) -> str:
    """Say how many bytes the arguments may have once the results are put in."""
    return f'{payload[:-1]},"{LIMIT}":{limit}}}'


def place_of(paths: Iterable[Path]) -> str:
    """Return the paths at which a result goes as text."""
    return _encode([list(path) for path in paths])


def limit_of(payload: str) -> int:
    """Return what ``with_limit`` has added; raises ``Unreadable`` if there is nothing."""
    return _limit_in(_loaded(payload))


def filled(payload: str, results: Iterable[tuple[str, str | None]], *, task_path: str) -> str:
    """Return the arguments with these results, each given with its place.

    No result is None: that of a job that has not succeeded. Raises ``PayloadTooLarge``, and
    ``Unreadable`` if somebody else has written what cannot be read.
    """
    call = _loaded(payload)
    limit = _limit_in(call)
    del call[LIMIT]
    try:
        for place, result in results:
            value = None if result is None else json.loads(result)
            for path in json.loads(place):
                _put(call, path, value)
        text = json.dumps(call, separators=(",", ":"))
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise Unreadable(what="arguments", problem=str(error)) from error
    if len(text) > limit:
        raise PayloadTooLarge(what=WHAT, size=len(text), limit=limit, task_path=task_path)
    return text


def _loaded(payload: str) -> dict[str, Any]:
    try:
        call = json.loads(payload)
    except (TypeError, ValueError, RecursionError) as error:
        raise Unreadable(what="arguments", problem=str(error)) from error
    if not isinstance(call, dict):
        raise Unreadable(what="arguments", problem=f"expected an object, got {call!r:.100}")
    return call


def _limit_in(call: dict[str, Any]) -> int:
    limit = call.get(LIMIT)
    if type(limit) is not int:
        raise Unreadable(what="arguments", problem="no result has a place in them")
    return limit


def _put(call: Any, path: Path, value: Any) -> None:
    *way, last = path
    for step in way:
        call = call[step]
    call[last] = value
