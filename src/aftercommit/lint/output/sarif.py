"""Findings as SARIF 2.1.0, which code hosts show beside the lines."""

import json
from pathlib import PurePath
from typing import Any

from aftercommit.lint.analysis import Report
from aftercommit.lint.findings import Finding
from aftercommit.race_rules import RULES, Severity
from aftercommit.version import VERSION

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
LEVELS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.POLICY: "note"}


def write(report: Report) -> str:
    """Return a SARIF log with one run."""
    used = sorted({found.rule for found in report.findings})
    driver = {
        "name": "aftercommit lint",
        "version": VERSION,
        "informationUri": "https://github.com/aftercommit/aftercommit",
        "rules": [_rule(name) for name in used],
    }
    results = [_result(found, used.index(found.rule)) for found in report.findings]
    run = {"tool": {"driver": driver}, "columnKind": "unicodeCodePoints", "results": results}
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def _rule(name: str) -> dict[str, Any]:
    rule = RULES[name]
    return {
        "id": name,
        "shortDescription": {"text": rule.title},
        "help": {"text": rule.fix},
        "helpUri": rule.page,
        "defaultConfiguration": {"level": LEVELS[rule.severity]},
    }


def _result(found: Finding, index: int) -> dict[str, Any]:
    place = _place(found.path, found.line, found.end_line)
    result: dict[str, Any] = {
        "ruleId": found.rule,
        "ruleIndex": index,
        "level": LEVELS[found.severity],
        "message": {"text": f"{found.message} {RULES[found.rule].fix}"},
        "locations": [place],
    }
    if found.chain:
        steps = [
            {"location": {**_place(one.path, one.line, one.line), "message": {"text": one.text}}}
            for one in found.chain
        ]
        result["codeFlows"] = [{"threadFlows": [{"locations": steps}]}]
    return result


def _place(path: str, line: int, end_line: int) -> dict[str, Any]:
    file = PurePath(path)
    uri = file.as_uri() if file.is_absolute() else file.as_posix()
    region = {"startLine": line, "endLine": max(line, end_line)}
    return {"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}
