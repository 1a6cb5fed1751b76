"""What a row contains, as text for a page: whatever it is, it is shown and nothing raises.

A row may have been written by hand, by SQL, or by another version.
"""

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from django.utils.formats import date_format
from django.utils.html import format_html, format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString
from django.utils.timezone import localtime
from django.utils.translation import gettext as _

from aftercommit.enqueue.undeclared import newer, undeclared
from aftercommit.models import Job, State
from aftercommit.printable import one_line
from aftercommit.relay.brokers.readable import readable
from aftercommit.relay.outbox import PUBLISH

LONGEST_TEXT = 20_000  # characters of one value on a page
# Of json.loads(): text that is no JSON, or nests too deep; None.
NOT_JSON = (ValueError, RecursionError, TypeError)


def is_message(job: Job) -> bool:
    """Return whether a job is a message for a broker."""
    return job.task_path == PUBLISH


def is_of_unknown_task(job: Job) -> bool:
    """Return whether a job waits for a task that nothing here declares."""
    return job.state == State.READY and bool(undeclared([job.task_path]))


def is_of_newer_version(job: Job) -> bool:
    """Return whether a job was enqueued by newer code than that which runs here."""
    return bool(newer([job.task_path]))


def wait_of(job: Job) -> str:
    """Return why no worker may claim a ready job now, or nothing."""
    words = {
        "limit": _("waits for a limit"),
        "rate": _("waits for its rate"),
        "turn": _("waits for its turn"),
        "pause": _("its task is paused"),
    }
    return words.get(job.waits_because or "", "")


def name_of(job: Job) -> str:
    """Return the path of a task, or for a message the name of its library's task."""
    return (is_message(job) and noted(job, "name")) or one_line(str(job.task_path))


def noted(job: Job, name: str) -> str:
    """Return a text in the meta data of a message, or nothing."""
    meta: Any = job.meta
    value = meta.get(name) if isinstance(meta, Mapping) else None
    return "" if value is None else one_line(value if isinstance(value, str) else _json(value))


def moment(found: object) -> str:
    """Return a moment in the time zone of the page, to the second."""
    with suppress(Exception):  # what the row has need not be a moment
        return date_format(localtime(found), "Y-m-d H:i:s")  # type: ignore[arg-type]
    return str(found)


def tags(job: Job, *, page: str, **query: str) -> SafeString:
    """Return the tags of a job, each with a link to the jobs of a page that have it."""
    links = [(page, urlencode({**query, "tag": one}), one_line(one)) for one in job.tags]
    return format_html_join(" ", '<a href="{}?{}">{}</a>', links)


def arguments(job: Job) -> SafeString | str:
    """Return the arguments, or the readable part of a message."""
    call = _loaded(job.payload)
    if not is_message(job):
        if not isinstance(call, Mapping):
            return _pre(job.payload)
        return _shown({name: call.get(name) for name in ("args", "kwargs")})
    kwargs = call.get("kwargs") if isinstance(call, Mapping) else None
    content = kwargs.get("content") if isinstance(kwargs, Mapping) else None
    values = readable(content) if isinstance(content, Mapping) else []
    if not values:
        return _("Not JSON, so it is not shown.")
    return format_html_join("", "{}", ((_shown(value),) for value in values))


def return_value(job: Job) -> SafeString | None:
    """Return the return value of the task."""
    if job.result is None:
        return None
    value = _loaded(job.result, unreadable=job)
    return _pre(job.result) if value is job else _shown(value)


def failed_runs(job: Job) -> SafeString | None:
    """Return the errors of all failed runs, the oldest first."""
    entries = _loaded(job.errors)
    if not isinstance(entries, list):
        return _pre(job.errors)
    return format_html_join("", "{}", ((_pre(_error(one)),) for one in entries)) or None


def _error(entry: Any) -> str:
    if isinstance(entry, Mapping):
        for name in ("traceback", "exception_class_path"):
            text = entry.get(name)
            if text and isinstance(text, str):
                return text
    return _json(entry)


def _loaded(text: str, *, unreadable: Any = None) -> Any:
    try:
        return json.loads(text)
    except NOT_JSON:
        return unreadable


def _shown(value: Any) -> SafeString:
    return _pre(_json(value, indent=2))


def _json(value: Any, **how: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, **how)
    except (RecursionError, ValueError):  # it nests deeper than Python can write
        return _("It nests too deep to be shown.")


def _pre(text: str) -> SafeString:
    text = str(text)  # SQLite may have stored bytes or a number
    cut = text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + " …"
    # A Python text may contain lone surrogates, which cannot be encoded for a page.
    return format_html("<pre>{}</pre>", cut.encode(errors="backslashreplace").decode())
