"""Rewrites what is shown to be wrong, with libcst: comments and layout stay as they are."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from aftercommit.lint.findings import Finding
from aftercommit.lint.fix.rewrite import rewrite


def repair(findings: Iterable[Finding]) -> int:
    """Rewrite the files of some findings; return how many places were changed.

    Left alone: a dispatch whose result is used, a name that means something else in the file,
    and files that are not Python 3.
    """
    by_path: dict[str, list[Finding]] = defaultdict(list)
    for found in findings:
        if found.using is not None:
            by_path[found.path].append(found)
    return sum(_repair(Path(path), every) for path, every in by_path.items())


def _repair(file: Path, findings: list[Finding]) -> int:
    before = file.read_bytes()
    after, changed = rewrite(before, findings)
    if changed:
        file.write_bytes(after)
    return changed
