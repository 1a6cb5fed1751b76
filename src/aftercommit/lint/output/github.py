"""Findings as commands of GitHub's workflows, which become notes at the lines of a change."""

from aftercommit.lint.analysis import Report
from aftercommit.race_rules import RULES, Severity

LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.POLICY: "notice"}


def write(report: Report) -> str:
    """Return one command a line."""
    return "\n".join(
        f"::{LEVELS[found.severity]} file={_property(found.path)},line={found.line},"
        f"endLine={found.end_line},title={_property(f'{found.rule} {RULES[found.rule].title}')}"
        f"::{_data(f'{found.message} {RULES[found.rule].fix}')}"
        for found in report.findings
    )


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
