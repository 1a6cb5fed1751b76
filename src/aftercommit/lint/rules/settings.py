"""ATOMIC_REQUESTS where Django does not look for it: AC114."""

from collections.abc import Iterator

from aftercommit.lint.findings import Finding, finding
from aftercommit.lint.graph import Graph, Knowledge
from aftercommit.lint.reach import Reach


def check(known: Knowledge, graph: Graph, reach: Reach) -> Iterator[Finding]:
    """Yield each ATOMIC_REQUESTS at the top of settings that nothing reads."""
    for module in known.project.modules:
        if not module.settings:
            continue
        top = module.functions[0]
        for one in top.assigns:
            read = any(
                "ATOMIC_REQUESTS" in _text(other.value)
                for other in top.assigns
                if other is not one
            )
            if one.target == "ATOMIC_REQUESTS" and one.value != ("const", False) and not read:
                yield finding(
                    "AC114",
                    path=module.path,
                    line=one.line,
                    end_line=one.line,
                    column=0,
                    subject="ATOMIC_REQUESTS",
                )


def _text(value: object) -> str:
    """Return names in an expression; ``("const", "ATOMIC_REQUESTS")`` is a key, no name."""
    if not isinstance(value, tuple):
        return ""
    if value[:1] == ("name",):
        return str(value[1])
    return "" if value[:1] == ("const",) else " ".join(_text(part) for part in value)
