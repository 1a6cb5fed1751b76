"""Calls: a task with its arguments, not enqueued. Inside another one it stands for its result."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from asgiref.sync import sync_to_async

from aftercommit._compat import TaskResult
from aftercommit.enqueue.payload import DEEPEST
from aftercommit.errors import GraphError
from aftercommit.places import Path
from aftercommit.values import CANCEL, ON_FAILURE

if TYPE_CHECKING:
    from aftercommit.enqueue.results import JobResult

MOST_PLACES = 1_000_000
SCALARS = frozenset({int, str, float, bool, type(None)})  # no call is in one


class Need(NamedTuple):
    """What a call waits for."""

    other: "Call | TaskResult"
    on_failure: str


class Call:  # not a value: two calls with equal arguments are two jobs
    """A task with its arguments, as ``task.bind(*args, **kwargs)`` returns it.

    Each ``enqueue()`` makes new jobs: one of this call, and one of each call that it needs,
    in its arguments or by ``after()``. One call that is needed in several places is one job.
    """

    is_no_json_because = (
        "a call stands for its result only in the arguments of another call: "
        "write task.bind(...).enqueue() instead of task.enqueue(...)"
    )
    __slots__ = ("args", "kwargs", "needs", "task")

    def __init__(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self.task = task
        self.args = tuple(args)
        self.kwargs = dict(kwargs)
        self.needs: list[Need] = []

    def __repr__(self) -> str:
        return f"<Call of {self.task.module_path}>"  # arguments are not for logs

    def using(self, **options: Any) -> "Call":
        """Return another call, of a variant of the task: see ``Task.using``."""
        other = Call(self.task.using(**options), self.args, self.kwargs)
        other.needs = list(self.needs)
        return other

    def after(self, *others: "Call | TaskResult", on_failure: str = CANCEL) -> Self:
        """Let this call wait for others, and return it.

        Each is a call, or the result of a job that is queued or has ended. If one fails or is
        cancelled, the job of this call is cancelled (``"cancel"``), fails (``"fail"``), or runs
        all the same (``"run"``). This also says so for a call that is an argument of this one.
        """
        if on_failure not in ON_FAILURE:
            raise GraphError(
                f"on_failure: expected one of {', '.join(map(repr, ON_FAILURE))}, got "
                f"{on_failure!r}",
                fix="say what becomes of this call if one that it waits for does not succeed.",
            )
        for one in others:
            if not isinstance(one, (Call, TaskResult)):
                raise GraphError(
                    f"after() expects calls and results, got {type(one).__name__}",
                    fix="pass task.bind(...), or what enqueue() has returned.",
                )
        self.needs += [Need(one, on_failure) for one in others]
        return self

    def enqueue(self) -> "JobResult":
        """Enqueue this call and all that it needs; return the result of this one.

        Part of the caller's transaction, as ``Task.enqueue`` is, and raises as that does, and
        ``GraphError`` for calls that need each other or are in different databases.
        """
        result: JobResult = self.task.get_backend().enqueue_calls([self])[0]
        return result

    async def aenqueue(self) -> "JobResult":
        """See ``enqueue``."""
        return await sync_to_async(self.enqueue)()


def chain(*calls: "Call | TaskResult", on_failure: str = CANCEL) -> Call:
    """Let each call wait for the one before it; return the last one, to be enqueued.

    No result is handed on: for that, let a call be an argument of the next one.
    """
    for before, one in pairwise(calls):
        if not isinstance(one, Call):
            raise GraphError(
                f"chain() expects calls, and perhaps a result as the first, got "
                f"{type(one).__name__}",
                fix="pass task.bind(...).",
            )
        one.after(before, on_failure=on_failure)
    last = calls[-1] if calls else None
    if not isinstance(last, Call):
        raise GraphError("chain() has no call to enqueue", fix="pass at least one call.")
    return last


class Parts(NamedTuple):
    """The arguments of a call without the calls and results in them."""

    args: list[Any]
    kwargs: dict[str, Any]
    found: dict[int, tuple["Call | TaskResult", list[Path]]]  # by id(): the same one, once


def parts_of(call: Call, *, hole: Any = None) -> Parts:
    """Take calls and results out of the arguments of a call; ``hole`` is put in their places."""
    if _are_scalars(call.args) and _are_scalars(call.kwargs.values()):  # as most
        return Parts(list(call.args), dict(call.kwargs), {})
    taker = _Taker(hole)
    args = [taker.without(one, ("args", place)) for place, one in enumerate(call.args)]
    kwargs = {name: taker.without(one, ("kwargs", name)) for name, one in call.kwargs.items()}
    return Parts(args, kwargs, taker.found)


def _are_scalars(values: Iterable[Any]) -> bool:
    return SCALARS.issuperset(map(type, values))


class _Taker:
    """Walks through arguments. What holds no call is left as it is, and is walked once."""

    def __init__(self, hole: Any) -> None:
        self.found: dict[int, tuple[Call | TaskResult, list[Path]]] = {}
        self._hole = hole
        self._places = 0
        self._holds_none: set[int] = set()  # lists and dicts by id()

    def without(self, value: Any, path: tuple[Any, ...]) -> Any:
        """Return a value without calls."""
        if isinstance(value, (Call, TaskResult)):
            self._take(value, path)
            return self._hole
        # What nests deeper, or holds itself, is refused where the arguments are dumped.
        if not isinstance(value, (list, tuple, dict)) or len(path) > DEEPEST:
            return value
        if id(value) in self._holds_none:
            return value
        before = self._places
        if isinstance(value, dict):
            made: Any = {name: self.without(one, (*path, name)) for name, one in value.items()}
        else:
            made = [self.without(one, (*path, place)) for place, one in enumerate(value)]
        if self._places > before:
            return made
        self._holds_none.add(id(value))
        return value

    def _take(self, one: "Call | TaskResult", path: tuple[Any, ...]) -> None:
        self._places += 1
        if self._places > MOST_PLACES:
            raise GraphError(
                f"the arguments of one call hold more than {MOST_PLACES:,} calls",
                fix="let calls in between put results together, some of them each.",
            )
        self.found.setdefault(id(one), (one, []))[1].append(path)
