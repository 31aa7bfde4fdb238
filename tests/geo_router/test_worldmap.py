"""The map: everything inside its box, lines that do not leap, names that do not meet."""

from __future__ import annotations

import re
from itertools import combinations, pairwise

import pytest

from geo_router import tables
from geo_router.pages import worldmap
from spaces.settings import ROOT
from tests.geo_router.builders import CLUSTERS

RULES = tables.load()


def coordinates(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](\S+) ([^\sMLz]+)", path)]


def drawn(lat: float, lon: float, ranked: tuple[str, ...] = CLUSTERS) -> worldmap.Map:
    chosen = ranked[0] if ranked else None
    return worldmap.draw(
        RULES.clusters, ranked, chosen=chosen, lat=lat, lon=lon, who="somebody"
    )


POINTS = [
    (-90.0, 0.0), (90.0, 0.0), (0.0, 180.0), (0.0, -180.0), (-41.0, 174.0), (48.8566, 2.3522),
    (-48.8566, -177.6478), (51.5, 179.999), (-17.85, 178.2), (90.0, 180.0), (-89.9, -180.0),
    *[(country.lat, country.lon) for country in RULES.countries.values()],
]  # fmt: skip


def test_whatever_is_drawn_stands_inside_the_view_box() -> None:
    for lat, lon in POINTS:
        shown = drawn(lat, lon)
        left, top, width, height = map(float, shown.box.split())
        points = [(shown.x - 4, shown.y - 4), (shown.x + 4, shown.y + 4)]
        points += [(mark.x + d, mark.y + d) for mark in shown.marks for d in (-3, 3)]
        for line in shown.lines:
            points += coordinates(line.path)
        assert len(shown.lines) == 6
        for x, y in points:
            # Written so that what is no number fails.
            assert left <= x <= left + width, (lat, lon)
            assert top <= y <= top + height, (lat, lon)
        assert "nan" not in str(shown)
        assert "inf" not in str(shown)


def test_a_line_joins_the_customer_and_the_cluster_without_a_leap() -> None:
    for lat, lon in POINTS:
        for line in drawn(lat, lon).lines:
            cluster = RULES.clusters[CLUSTERS.index(line.id)]
            legs = [coordinates(f"M{leg}") for leg in line.path.split("M")[1:]]
            assert legs[0][0] == (round(lon + 180, 1), round(90 - lat, 1))
            assert legs[-1][-1] == (round(cluster.lon + 180, 1), round(90 - cluster.lat, 1))
            for leg in legs:
                assert all(abs(b[0] - a[0]) <= 180 for a, b in pairwise(leg))
            for a, b in pairwise(legs):
                assert {a[-1][0], b[0][0]} == {0.0, 360.0}
                assert a[-1][1] == b[0][1]


def test_a_line_is_the_shortest_way() -> None:
    paris, tokyo = (2.35, 48.86), (139.7, 35.7)
    (way,) = worldmap.great_circle(paris, tokyo)
    assert max(lat for _, lat in way) > 65
    assert len(worldmap.great_circle((170.0, -40.0), (-80.0, 40.0))) == 2


def boxes(shown: worldmap.Map, size: float) -> list[tuple[str, float, float, float, float]]:
    """The names on the map as boxes (left, top, right, bottom), at a text size in units."""
    out: list[tuple[str, float, float, float, float]] = []
    for mark in shown.marks:
        wide = len(mark.label) * size * 0.58
        left = mark.label_x - (wide if mark.anchor == "end" else 0)
        top = mark.label_y - size * 0.75
        out.append((mark.id, left, top, left + wide, mark.label_y + size * 0.2))
    return out


@pytest.mark.parametrize("ranked", [CLUSTERS, (), ("india",)])
def test_no_names_overlap_or_leave_the_map_wide_or_narrow(ranked: tuple[str, ...]) -> None:
    sheet = (ROOT / "console" / "static" / "console.css").read_text()
    sizes = [float(size) for size in re.findall(r"\.mark text \{ font-size: (\d+)px", sheet)]
    assert len(sizes) == 2
    for size in sizes:
        shown = drawn(50.0, 10.0, ranked)
        left, top, width, height = map(float, shown.box.split())
        named = boxes(shown, size)
        for _, x, y, right, bottom in named:
            assert left <= x < right <= left + width
            assert top <= y < bottom <= top + height
        for a, b in combinations(named, 2):
            apart = a[3] <= b[1] or b[3] <= a[1] or a[4] <= b[2] or b[4] <= a[2]
            assert apart, (size, a, b)


def test_the_coasts_are_small_and_on_the_globe() -> None:
    assert len(worldmap.land()) < 12_000
    for x, y in coordinates(worldmap.land()):
        assert 0 <= x <= 360
        assert 0 <= y <= 180
