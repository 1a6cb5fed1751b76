"""What the runs of a job have noted, as HTML for a page."""

from collections.abc import Sequence

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from aftercommit.models import Saved
from aftercommit.notes import JobProgress, LogEntry
from aftercommit.windows.admin import content

LINES = 500  # shown
LONGEST_VALUE = 2_000  # characters


def progress(found: JobProgress | None) -> SafeString | None:
    """Return a bar, the numbers and the message."""
    if found is None:
        return None
    said = format_html("{} {}", found.message, content.moment(found.changed_at))
    if found.total is None:
        return format_html("{} · {}", found.done, said)
    bar = '<progress value="{}" max="{}"></progress> {} % ({} / {}) · {}'
    done, total = min(found.done, found.total), max(found.total, 1)
    return format_html(bar, done, total, found.percent, found.done, found.total, said)


def log(lines: Sequence[LogEntry]) -> SafeString | None:
    """Return the last lines, each with its attempt, level and logger."""
    if not lines:
        return None
    shown = [
        (
            content.moment(one.logged_at),
            one.attempt,
            one.level_name,
            f"{one.logger} ".lstrip(),
            one.message,
        )
        for one in lines[-LINES:]
    ]
    before = _("Only the last %d lines are shown.") % LINES if len(lines) > LINES else ""
    return format_html(
        "{}<pre>{}</pre>", before, format_html_join("\n", "{} [{}] {} {}{}", shown)
    )


def kept(rows: Sequence[Saved]) -> SafeString | None:
    """Return the checkpoint and the answers of calls."""
    if not rows:
        return None
    shown = [
        (row.name or row.get_kind_display(), content.moment(row.saved_at), _cut(row))
        for row in rows
    ]
    return format_html_join("", "<p>{} ({})</p><pre>{}</pre>", shown)


def _cut(row: Saved) -> str:
    text = str(row.value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]} …"
