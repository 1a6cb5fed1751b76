"""Comments that silence findings: ``# noqa`` and ``# noqa: AC101``."""

import re
from collections.abc import Iterable

NOQA = re.compile(r"#\s*noqa(?P<codes>\s*:\s*[A-Z][A-Z0-9]*(?:[,\s]+[A-Z]+[0-9]+)*)?", re.I)


def noqa(text: str) -> Iterable[tuple[int, str]]:
    """Yield line and codes of each such comment, "" for all codes."""
    if "noqa" not in text and "NOQA" not in text:
        return
    for number, line in enumerate(text.splitlines(), 1):
        found = NOQA.search(line)
        if found:
            yield number, (found["codes"] or "").strip(" :").upper()
