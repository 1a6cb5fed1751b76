"""A graph of jobs, drawn in layers: what is needed stands before what needs it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

BOX, HIGH, ACROSS, DOWN, MARGIN = 190, 44, 70, 18, 10  # of a box, and between them


@dataclass(frozen=True, slots=True)
class Placed:
    """A job with its place; coordinates as texts, for attributes."""

    job_id: UUID
    x: int
    y: int


@dataclass(frozen=True, slots=True)
class Drawing:
    """Where everything is."""

    places: dict[UUID, Placed]
    paths: list[str]  # of the edges, as SVG has them
    width: int
    height: int


def draw(nodes: Sequence[UUID], edges: Iterable[tuple[UUID, UUID]]) -> Drawing:
    """Place jobs; an edge leads from what is needed to what needs it.

    The layer of a job is the length of the longest way to it. Within a layer, jobs stand by the
    mean place of what they need, so that few edges cross.
    """
    known = set(nodes)
    pairs = sorted({(one, other) for one, other in edges if one in known and other in known})
    layers = _layers(nodes, pairs)
    places: dict[UUID, Placed] = {}
    for column, layer in enumerate(layers):
        for row, job_id in enumerate(_ordered(layer, pairs, places)):
            x, y = MARGIN + column * (BOX + ACROSS), MARGIN + row * (HIGH + DOWN)
            places[job_id] = Placed(job_id, x, y)
    deepest = max((len(layer) for layer in layers), default=0)
    return Drawing(
        places,
        [_path(places[one], places[other]) for one, other in pairs],
        width=2 * MARGIN + len(layers) * (BOX + ACROSS) - ACROSS * bool(layers),
        height=2 * MARGIN + deepest * (HIGH + DOWN) - DOWN * bool(deepest),
    )


def _layers(nodes: Sequence[UUID], pairs: list[tuple[UUID, UUID]]) -> list[list[UUID]]:
    needs: dict[UUID, set[UUID]] = {one: set() for one in nodes}
    for one, other in pairs:
        needs[other].add(one)
    layers: list[list[UUID]] = []
    left = dict(needs)
    placed: set[UUID] = set()
    while left:
        layer = [one for one in left if left[one] <= placed]
        # A ring, which only rows written by others can have, is broken anywhere.
        layer = layer or [next(iter(left))]
        layers.append(layer)
        placed.update(layer)
        for one in layer:
            del left[one]
    return layers


def _ordered(
    layer: list[UUID], pairs: list[tuple[UUID, UUID]], places: dict[UUID, Placed]
) -> list[UUID]:
    above: dict[UUID, list[int]] = {one: [] for one in layer}
    for one, other in pairs:
        if other in above and one in places:
            above[other].append(places[one].y)
    return sorted(layer, key=lambda one: sum(above[one]) / max(len(above[one]), 1))


def _path(one: Placed, other: Placed) -> str:
    begin, end = (one.x + BOX, one.y + HIGH // 2), (other.x, other.y + HIGH // 2)
    bend = max((end[0] - begin[0]) // 2, ACROSS // 2)
    return (
        f"M{begin[0]},{begin[1]} C{begin[0] + bend},{begin[1]} "
        f"{end[0] - bend},{end[1]} {end[0]},{end[1]}"
    )
