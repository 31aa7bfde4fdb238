"""Where the clusters lie as seen from a customer: what is drawn, as numbers. Pure.

Equirectangular: a degree is a unit, x grows eastward, y southward from the pole. The template
writes attributes and classes only, since the pages' policy forbids inline style.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geo_router import rank
from geo_router.pages.outline import coasts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from geo_router.pages.outline import Point
    from geo_router.tables import Cluster

MARGIN = 6.0
"""Room for marks that stand on the edge."""
NORTH, SOUTH = 82.0, -58.0
"""What is shown at least; lines and marks beyond widen it."""
STEPS = 48
LABELS: Mapping[str, tuple[float, float, str]] = {
    "france": (4.0, 7.0, "start"),
    "uk": (-3.5, -4.0, "end"),
    "united-states": (4.0, 10.5, "start"),
    "canada": (-4.0, 6.0, "end"),
}
"""Where the name stands beside its mark (right, down, anchor), so that neighbours do not meet."""
BESIDE = (4.0, 5.0, "start")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """One cluster: its place in the order of choice, or none where it is excluded."""

    id: str
    x: float
    y: float
    kind: str
    label: str
    label_x: float
    label_y: float
    anchor: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The shortest way from the customer to a ranked cluster."""

    id: str
    path: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Map:
    """The picture; `x` and `y` are the customer's point."""

    box: str
    land: str
    x: float
    y: float
    marks: tuple[Mark, ...]
    lines: tuple[Line, ...]
    words: str


def draw(
    clusters: Sequence[Cluster],
    ranked: Sequence[str],
    *,
    chosen: str | None,
    lat: float,
    lon: float,
    who: str,
) -> Map:
    """The clusters around a customer at (lat, lon); `ranked` are those that remain, in order."""
    ways = {
        cluster.id: great_circle((lon, lat), (cluster.lon, cluster.lat))
        for cluster in clusters
        if cluster.id in ranked
    }
    lats = [lat, *[one[1] for way in ways.values() for leg in way for one in leg]]
    north, south = max(NORTH, *lats), min(SOUTH, *lats)
    return Map(
        box=f"{-MARGIN:g} {90 - north - MARGIN:.1f} {360 + 2 * MARGIN:g} "
        f"{north - south + 2 * MARGIN:.1f}",
        land=land(),
        x=_x(lon),
        y=_y(lat),
        marks=tuple(_mark(cluster, ranked, chosen) for cluster in clusters),
        lines=tuple(
            Line(
                id=name,
                path=" ".join(_path(leg) for leg in ways[name]),
                kind="chosen" if name == chosen else "other",
            )
            for name in reversed(ranked)
        ),
        words=_words(clusters, ranked, who),
    )


@functools.cache
def land() -> str:
    """The coasts as one path."""
    return " ".join(f"{_path(shape)}z" for shape in coasts())


def great_circle(start: Point, end: Point) -> list[list[Point]]:
    """The shortest way between two places, in legs that do not cross the date line."""
    a, b = rank.vector(start[1], start[0]), rank.vector(end[1], end[0])
    angle = 2 * math.asin(min(1.0, math.dist(a, b) / 2))
    if angle < 1e-6:
        return [[start, end]]
    between = [_along(a, b, angle, step / STEPS) for step in range(1, STEPS)]
    return _legs([start, *between, end])


def _along(a: rank.Vector, b: rank.Vector, angle: float, share: float) -> Point:
    """The place at a share of the way. For opposite places any way is the shortest: sin is not 0."""
    rest = max(math.sin(angle), 1e-9)
    p, q = math.sin((1 - share) * angle) / rest, math.sin(share * angle) / rest
    x, y, z = (p * one + q * other for one, other in zip(a, b, strict=True))
    return math.degrees(math.atan2(y, x)), math.degrees(math.atan2(z, math.hypot(x, y)))


def _legs(way: Sequence[Point]) -> list[list[Point]]:
    legs: list[list[Point]] = [[way[0]]]
    for (lon, lat), (to_lon, to_lat) in itertools.pairwise(way):
        if abs(to_lon - lon) > 180:
            edge = math.copysign(180.0, lon)
            beyond = to_lon + 2 * edge
            share = (edge - lon) / (beyond - lon) if beyond != lon else 0.0
            crossing = lat + share * (to_lat - lat)
            legs[-1].append((edge, crossing))
            legs.append([(-edge, crossing)])
        legs[-1].append((to_lon, to_lat))
    return legs


def _mark(cluster: Cluster, ranked: Sequence[str], chosen: str | None) -> Mark:
    right, down, anchor = LABELS.get(cluster.id, BESIDE)
    name = cluster.name.partition(" (")[0]
    order = ranked.index(cluster.id) + 1 if cluster.id in ranked else None
    if order is None:
        kind, label, told = "excluded", f"✕ {name}", "excluded"
    else:
        kind = "chosen" if cluster.id == chosen else "other"
        label, told = f"{order} {name}", f"number {order} in the order of choice"
    x, y = _x(cluster.lon), _y(cluster.lat)
    return Mark(
        id=cluster.id,
        x=x,
        y=y,
        kind=kind,
        label=label,
        label_x=round(x + right, 1),
        label_y=round(y + down, 1),
        anchor=anchor,
        title=f"{cluster.name}, {cluster.place}: {told}",
    )


def _words(clusters: Sequence[Cluster], ranked: Sequence[str], who: str) -> str:
    names = {cluster.id: cluster.name for cluster in clusters}
    if not ranked:
        return f"The six clusters and {who}. None of them remains."
    order = ", then ".join(names[name] for name in ranked)
    return f"Lines from {who} to the clusters that remain, in the order of choice: {order}."


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{_x(lon):g} {_y(lat):g}" for lon, lat in points)


def _x(lon: float) -> float:
    return round(lon + 180, 1)


def _y(lat: float) -> float:
    return round(90 - lat, 1)
