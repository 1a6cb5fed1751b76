"""Arguments and errors in a few words, from the parts of columns that a list reads."""

import json
import re
from typing import Any

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from aftercommit.errors import Unreadable
from aftercommit.printable import one_line
from aftercommit.stored import read_arguments
from aftercommit.windows.admin import content

COLUMN = 90  # characters of a column in the admin
SHOWN = 160  # characters of arguments and errors
# The last line of the last traceback, as it stands in the JSON of the column.
LAST_LINE = re.compile(r'(?:^|"|\\n)((?:[^"\\]|\\(?!n).)*)(?:\\n)*", "worker_id": [^{}]*\}\]\s*$')


def preview(job: Any) -> str:
    """Return the arguments as they stand in a call, cut; of a message nothing."""
    if content.is_message(job):
        return ""
    head = str(job.payload_head or "")
    if job.payload_size > len(head):  # cut, so it cannot be read as JSON
        return _cut(one_line(head.partition('"secrets":')[0]))
    try:
        args, kwargs = read_arguments(head)
    except Unreadable:
        return _cut(one_line(head))
    words = [*map(_json, args), *(f"{name}={_json(one)}" for name, one in kwargs.items())]
    return _cut(one_line(", ".join(words)))


def last_line(errors: str) -> str:
    """Return the last line of the latest error, from the end of the column."""
    found = LAST_LINE.search(str(errors or ""))
    if found is None:
        return ""
    try:
        text = json.loads(f'"{found[1]}"')
    except ValueError:
        text = found[1]
    return _cut(one_line(text.strip()))


def cut(text: str) -> str:
    """Return a text as short as a column of the admin."""
    return text if len(text) <= COLUMN else f"{text[:COLUMN]}…"


def with_parts(title: str, *parts: str, error: str = "") -> SafeString:
    """Return a title with lines below it, those that there are."""
    found = [(one, "part") for one in parts if one] + [(error, "error")] * bool(error)
    below = [(f"aftercommit-{kind}", one) for one, kind in found]
    return format_html("{}{}", title, format_html_join("", '<span class="{}">{}</span>', below))


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        return "…"


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
