"""The tables, on the terminal and in RESULTS.md."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

from benchmarks.measure import Figure

OURS = "aftercommit"


@dataclass(slots=True)
class Results:
    """All that was measured, and why something was not."""

    figures: defaultdict[tuple[str, str], list[Figure]] = field(
        default_factory=lambda: defaultdict(list)
    )
    missing: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, peer: str, figures: Iterable[Figure]) -> None:
        """Keep the figures of one measurement."""
        for figure in figures:
            self.figures[figure.what, peer].append(figure)

    def miss(self, peer: str, workload: str, why: str) -> None:
        """Say why there are none."""
        self.missing[peer, workload] = why

    def markdown(self) -> str:
        """Return a table for each thing that was measured."""
        parts = [f"## {what}\n\n{table}" for what, table in self.tables().items()]
        if self.missing:
            lines = [f"- {peer}, {what}: {why}" for (peer, what), why in self.missing.items()]
            parts.append("## Not measured\n\n" + "\n".join(lines))
        return "\n\n".join(parts) + "\n"

    def tables(self) -> dict[str, str]:
        """Return a table for each thing that was measured."""
        return {what: self._table(what) for what, _peer in self.figures}

    def _table(self, what: str) -> str:
        rows = {peer: found for (one, peer), found in self.figures.items() if one == what}
        unit, better = next(iter(rows.values()))[0].unit, next(iter(rows.values()))[0].better
        ours = _median(rows[OURS]) if OURS in rows else None
        lines = [
            f"{unit}, {better} is better; the ratio is ours over theirs\n",
            "| | median | min | max | ratio |",
            "|---|---:|---:|---:|---:|",
        ]
        for peer, found in rows.items():
            values = [one.value for one in found]
            theirs = _median(found)
            ratio = "" if not (ours and theirs) or peer == OURS else f"{ours / theirs:.2f}"
            numbers = [_text(one) for one in (_median(found), min(values), max(values))]
            lines.append(f"| {peer} | {' | '.join(numbers)} | {ratio} |")
        return "\n".join(lines)


def _median(figures: list[Figure]) -> float:
    return median(one.value for one in figures)


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"
