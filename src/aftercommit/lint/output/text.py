"""Findings for people: one line with the place, one with what to do, and the way there."""

from collections import Counter

from aftercommit.lint.analysis import Report
from aftercommit.lint.findings import Finding
from aftercommit.race_rules import RULES, Severity


def write(report: Report) -> str:
    """Return all findings and a last line with their number."""
    lines = [line for found in report.findings for line in _lines(found)]
    lines += [f"{path}: not all of it could be parsed" for path in report.unparsed]
    return "\n".join([*lines, _summary(report)])


def _lines(found: Finding) -> list[str]:
    place = f"{found.path}:{found.line}:{found.column + 1}"
    lines = [f"{place}: {found.rule} {found.severity}: {found.message}"]
    lines += [f"    {step.path}:{step.line}: {step.text}" for step in found.chain]
    return [*lines, f"    Fix: {RULES[found.rule].fix}"]


def _summary(report: Report) -> str:
    counts = Counter(found.severity for found in report.findings)
    parts = [f"{counts[one]} {one}" for one in Severity if counts[one]]
    found = ", ".join(parts) or "nothing found"
    return f"{found} in {report.files:,} files, {report.lines:,} lines"
