"""Findings as JSON: one array, a stable set of fields."""

import json
from typing import Any

from aftercommit.lint.analysis import Report
from aftercommit.lint.findings import Finding
from aftercommit.race_rules import RULES


def write(report: Report) -> str:
    """Return the findings as a JSON array."""
    return json.dumps([as_dict(found) for found in report.findings], indent=2)


def as_dict(found: Finding) -> dict[str, Any]:
    """Return a finding's fields; ``column`` counts from 1, as editors do."""
    return {
        "rule": found.rule,
        "severity": str(found.severity),
        "path": found.path,
        "line": found.line,
        "end_line": found.end_line,
        "column": found.column + 1,
        "message": found.message,
        "fix": RULES[found.rule].fix,
        "url": RULES[found.rule].page,
        "chain": [
            {"path": step.path, "line": step.line, "text": step.text} for step in found.chain
        ],
    }
