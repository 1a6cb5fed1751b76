"""Small charts as numbers for SVG: a page draws them by attributes alone, without a script."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.utils.formats import date_format
from django.utils.timezone import localtime

from aftercommit.dashboard.times import span
from aftercommit.jobs import Statistics

WIDTH, HEIGHT = 600, 120
SHORTEST_BAR = 2.0  # so that one failure among thousands is seen


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a column: the ends of one kind in one step of time."""

    kind: str
    x: str
    y: str
    width: str
    height: str


@dataclass(frozen=True, slots=True)
class Chart:
    """What a page draws, and the same in words for who does not see it."""

    id: str
    title: str
    summary: str
    bars: tuple[Bar, ...]
    lines: tuple[tuple[str, str], ...]  # the kind and the points of each line
    highest: str
    begins: str
    ends: str
    rows: tuple[tuple[str, ...], ...]  # of the table with the same numbers

    width, height = WIDTH, HEIGHT


def ends(points: Sequence[Statistics], *, id: str, title: str, summary: str, form: str) -> Chart:
    """Return how many jobs have succeeded and failed in each step, one upon the other."""
    most = max((one.succeeded + one.failed for one in points), default=0)
    bars: list[Bar] = []
    for number, one in enumerate(points):
        base = float(HEIGHT)
        for kind, value in (("failed", one.failed), ("succeeded", one.succeeded)):
            if value:
                height = max(HEIGHT * value / most, SHORTEST_BAR)
                base -= height
                bars.append(_bar(kind, number, len(points), base, height))
    return _chart(
        points,
        id=id,
        title=title,
        summary=summary,
        form=form,
        bars=tuple(bars),
        highest=f"{most:,}",
        row=lambda one: (str(one.succeeded), str(one.failed)),
    )


def spans(
    points: Sequence[Statistics],
    which: Callable[[Statistics], Any],
    *,
    id: str,
    title: str,
    summary: str,
    form: str,
) -> Chart:
    """Return lines of the median and of 95 % of what took time; a step without any is a gap."""
    lines = {
        kind: [which(one).percentile(percent) for one in points]
        for kind, percent in (("median", 50), ("p95", 95))
    }
    known = (one for values in lines.values() for one in values if one is not None)
    most = max(known, default=None)
    drawn = tuple(
        (kind, part) for kind, values in lines.items() for part in _polylines(values, most)
    )
    return _chart(
        points,
        id=id,
        title=title,
        summary=summary,
        form=form,
        lines=drawn,
        highest=span(most),
        row=lambda one: (span(which(one).percentile(50)), span(which(one).percentile(95))),
    )


def _chart(
    points: Sequence[Statistics],
    *,
    form: str,
    row: Callable[[Statistics], tuple[str, ...]],
    bars: tuple[Bar, ...] = (),
    lines: tuple[tuple[str, str], ...] = (),
    **given: Any,
) -> Chart:
    moments = [_moment(one.since, form) for one in points]
    return Chart(
        bars=bars,
        lines=lines,
        begins=moments[0] if moments else "",
        ends=moments[-1] if moments else "",
        rows=tuple(
            (moment, *row(one)) for moment, one in zip(moments, points, strict=True) if one.ended
        ),
        **given,
    )


def _bar(kind: str, number: int, many: int, y: float, height: float) -> Bar:
    step = WIDTH / many
    return Bar(
        kind,
        x=f"{number * step + step * 0.1:.1f}",
        y=f"{max(y, 0.0):.1f}",
        width=f"{step * 0.8:.1f}",
        height=f"{height:.1f}",
    )


def _polylines(values: Sequence[timedelta | None], most: timedelta | None) -> list[str]:
    """Return the points of each piece of a line that has no gap; one point is a short line."""
    step = WIDTH / max(len(values), 1)
    pieces: list[list[tuple[float, float]]] = [[]]
    for number, value in enumerate(values):
        if value is None:
            pieces.append([])
        else:
            share = value / most if most else 0.0
            pieces[-1].append(((number + 0.5) * step, HEIGHT - 3 - (HEIGHT - 6) * share))
    drawn = [_visible(piece, step) for piece in pieces if piece]
    return [" ".join(f"{x:.1f},{y:.1f}" for x, y in piece) for piece in drawn]


def _visible(piece: list[tuple[float, float]], step: float) -> list[tuple[float, float]]:
    if len(piece) > 1:
        return piece
    ((x, y),) = piece
    return [(x - step / 2, y), (x + step / 2, y)]


def _moment(moment: datetime | None, form: str) -> str:
    return "" if moment is None else date_format(localtime(moment), form)
