"""What callers ask for becomes ``Criteria``, or is refused."""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connections

from aftercommit._compat import BaseTask
from aftercommit.enqueue.called import stored_names
from aftercommit.enqueue.group_results import GroupResult
from aftercommit.enqueue.names import names_of
from aftercommit.errors import BadSelection
from aftercommit.options.queues import LONGEST_NAME, QUEUE_PREFIX, is_queue_name, is_stored_name
from aftercommit.options.tags import LONGEST_TAG, is_tag
from aftercommit.store import default_alias
from aftercommit.store.criteria import STATES, Criteria

LOWEST, HIGHEST = -100, 100  # priorities, as in Django


def criteria(  # noqa: PLR0913 - see ``jobs.find()``
    *,
    ids: Iterable[UUID | str] | None,
    state: str | Collection[str] | None,
    task: Any,
    queue: str | None,
    enqueued_before: datetime | timedelta | None,
    enqueued_after: datetime | timedelta | None,
    finished_before: datetime | timedelta | None,
    error_contains: str | None,
    arguments_contain: str | None,
    tag: str | None,
    group: Any = None,
    until: UUID | None = None,
) -> Criteria:
    """Return the criteria; raises ``BadSelection`` for what cannot be true of a job."""
    if queue is not None and not is_stored_name(queue):
        what = f"a name of 1 to {LONGEST_NAME} printable characters"
        raise BadSelection("queue", what, queue)
    texts = {"error_contains": error_contains, "arguments_contain": arguments_contain}
    for name, text in texts.items():
        if text is not None and not (isinstance(text, str) and text):
            raise BadSelection(name, "a text", text)
    if tag is not None and not is_tag(tag):
        raise BadSelection("tag", f"a text of 1 to {LONGEST_TAG} printable characters", tag)
    return Criteria(
        ids=None if ids is None else uuids("ids", ids),
        states=STATES if state is None else _states(state),
        task_paths=None if task is None else task_paths(task),
        queue=queue,
        enqueued_before=_before("enqueued_before", enqueued_before),
        enqueued_after=_before("enqueued_after", enqueued_after),
        finished_before=_before("finished_before", finished_before),
        error_contains=error_contains,
        arguments_contain=arguments_contain,
        tag=tag,
        group=None if group is None else _group(group),
        until=until,
    )


def uuids(name: str, given: object) -> tuple[UUID, ...]:
    """Return the ids of jobs; those of results are texts."""
    try:
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ValueError
        return tuple(map(_uuid, given))
    except ValueError:
        raise BadSelection(name, "UUIDs of jobs, such as [result.id]", given) from None


def database(using: str | None) -> str:
    """Return the alias that is meant: by default where the router writes jobs."""
    if using is None:
        return default_alias()
    if using not in list(connections):
        raise BadSelection("using", f"the alias of a database ({', '.join(connections)})", using)
    return using


def target(queue: object) -> str:
    """Return the name of a queue if jobs may be in one of such a name."""
    if not is_queue_name(queue):
        what = f"a name of 1 to {LONGEST_NAME} printable characters, no space at its ends"
        raise BadSelection("queue", what, queue)
    if str(queue).startswith(QUEUE_PREFIX):
        raise BadSelection("queue", "a queue of jobs; this one is of a broker's messages", queue)
    return str(queue)


def priority(value: object) -> int:
    """Return a priority as Django allows it."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or not LOWEST <= value <= HIGHEST:  # type: ignore[operator]
        raise BadSelection("priority", f"a whole number from {LOWEST} to {HIGHEST}", value)
    return int(value)  # type: ignore[call-overload, no-any-return]


def _uuid(given: object) -> UUID:
    if isinstance(given, str):
        return UUID(given)
    if not isinstance(given, UUID):
        raise ValueError
    return given


def _group(given: object) -> UUID:
    found = given.id if isinstance(given, GroupResult) else given
    try:
        return _uuid(found)
    except ValueError:
        what = "a group, or its id; groups.latest(name) finds one by its name"
        raise BadSelection("group", what, given) from None


def _states(given: object) -> tuple[str, ...]:
    wanted = [given] if isinstance(given, str) else given
    if not isinstance(wanted, (list, tuple, set, frozenset)) or not wanted:
        raise BadSelection("state", "a state, or several", given)
    for one in wanted:
        if one not in STATES:
            raise BadSelection("state", f"one of {', '.join(STATES)}", one)
    return tuple(one for one in STATES if one in wanted)


def task_paths(given: Any) -> tuple[str, ...]:
    """Return each name under which jobs of a task may be stored."""
    if not isinstance(given, BaseTask) and not (isinstance(given, str) and given):
        raise BadSelection("task", "a task, or its path such as 'shop.tasks.send_mail'", given)
    return tuple(stored_names(given) if isinstance(given, str) else names_of(given))


def _before(name: str, given: object) -> datetime | timedelta | None:
    if given is None:
        return None
    is_span = isinstance(given, timedelta) and given >= timedelta(0)
    is_moment = isinstance(given, datetime) and given.tzinfo is not None
    if not is_span and not is_moment:
        what = "an aware datetime, or a timedelta that is not negative"
        raise BadSelection(name, what, given)
    return given  # type: ignore[return-value]
