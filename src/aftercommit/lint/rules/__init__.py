"""The rules: each takes what is known of a project and yields findings."""

from collections.abc import Callable, Iterator

from aftercommit.lint.findings import Finding
from aftercommit.lint.graph import Graph, Knowledge
from aftercommit.lint.reach import Reach
from aftercommit.lint.rules import callbacks, dispatches, errors, settings, signals, tasks

CHECKS: tuple[Callable[[Knowledge, Graph, Reach], Iterator[Finding]], ...] = (
    dispatches.check,
    signals.check,
    callbacks.check,
    errors.check,
    settings.check,
    tasks.check,
)
