"""How many known races the linter finds, and how much else it says.

``python -m benchmarks.lint_recall SITES CHECKOUTS``

``SITES`` is a JSON list of places where a dispatch was deferred later: ``repo``, ``sha`` of the
commit that did so, and ``file`` and ``line`` before it. ``CHECKOUTS`` holds a folder
``owner+name/sha`` for each, with the files of that commit's parent.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aftercommit.lint.analysis import lint
from aftercommit.lint.configuration import Configuration
from aftercommit.lint.findings import Finding
from aftercommit.race_rules import RULES, Severity

Site = dict[str, Any]


def main(sites_file: str, checkouts: str) -> None:
    """Print figures for each rule and for all of them."""
    by_snapshot: dict[str, list[Site]] = defaultdict(list)
    for site in json.loads(Path(sites_file).read_text()):
        by_snapshot[f"{site['repo'].replace('/', '+')}/{site['sha']}"].append(site)
    lines = {
        line for name, sites in by_snapshot.items() for line in _code(checkouts, name, sites)
    }
    mended = 0
    hits: Counter[str] = Counter()
    reported: Counter[str] = Counter()
    read = whole = 0
    for name, sites in sorted(by_snapshot.items()):
        root = Path(checkouts, name)
        report = lint([root], Configuration(severity=Severity.POLICY))
        read += report.lines
        whole += sum(_lines(file) for file in root.rglob("*.py"))
        reported.update(_key(one) for one in report.findings)
        mended += sum(_is_mended(one, root, lines) for one in report.findings)
        for site in sites:
            found = _at(report.findings, site)
            hits[_key(found) if found else "none"] += 1
            if found is None or found.severity is Severity.POLICY:
                print("not found as error or warning:", name, site["file"], site["line"])
    _print(hits, reported, read, whole)
    print(f"{mended} of the errors and warnings are such a place, in this snapshot or another")


def _code(checkouts: str, name: str, sites: list[Site]) -> Iterable[tuple[str, str]]:
    """Yield name of the file and line of code of each place: later snapshots have it, too."""
    for site in sites:
        file = Path(checkouts, name, site["file"])
        if file.is_file():
            text = file.read_text(errors="replace").splitlines()[site["line"] - 1]
            yield file.name, text.strip()


def _is_mended(found: Finding, root: Path, lines: set[tuple[str, str]]) -> bool:
    if found.severity is Severity.POLICY:
        return False
    file = root / found.path
    text = file.read_text(errors="replace").splitlines()[found.line - 1 : found.end_line]
    return any((file.name, line.strip()) in lines for line in text)


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.is_file() else 0


def _key(found: Finding) -> str:
    return f"{found.rule} {found.severity}"


def _at(findings: Iterable[Finding], site: Site) -> Finding | None:
    here = (
        one
        for one in findings
        if one.path.endswith(site["file"]) and one.line <= site["line"] <= one.end_line
    )
    return min(here, key=lambda one: one.severity.rank, default=None)


def _print(hits: Counter[str], reported: Counter[str], read: int, whole: int) -> None:
    print("\n| rule | known places found | findings |\n|---|---|---|")
    for key in sorted(reported, key=lambda one: (list(RULES).index(one[:5]), one)):
        print(f"| {key} | {hits[key]} | {reported[key]} |")
    all_sites = hits.total()
    severe = sum(n for key, n in hits.items() if key.endswith(("error", "warning")))
    known = all_sites - hits["none"]
    loud = sum(n for key, n in reported.items() if key.endswith(("error", "warning")))
    print(f"\nerror and warning: {severe} of {all_sites} places, {severe / all_sites:.0%}")
    print(f"with policy: {known} of {all_sites} places, {known / all_sites:.0%}")
    print(f"errors and warnings: {loud}, {loud / whole * 100_000:.1f} per 100,000 lines")
    print(f"of {whole:,} lines, {read:,} of them no tests")


if __name__ == "__main__":
    main(*sys.argv[1:])
