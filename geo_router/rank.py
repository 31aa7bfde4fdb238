"""How near a cluster is: estimated round trip first, then great circle.

The estimate goes through the nearest Azure regions ("hubs"), for which round trips to the six
clusters were published: access + distance to the hub + hub to cluster, the best of the hubs within
reach. On 44 regions, each left out in turn, its mean error is 11 ms against 27 ms for the great
circle alone (docs/decisions/0101). Pure, standard library only.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from geo_router.model import Places

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

SAMPLES_NEEDED = 3
"""A measured cluster counts from this many samples on."""

Vector = tuple[float, float, float]


class Hub(NamedTuple):
    """An Azure region with its published round trip to each cluster, in ms."""

    at: Vector
    rtt_ms: tuple[float, ...]


class Model(NamedTuple):
    """The figures of rules/clusters.yaml, `rtt_model`, with hubs and clusters as unit vectors."""

    names: tuple[str, ...]
    hubs: tuple[Hub, ...]
    clusters: tuple[Vector, ...]
    access_ms: float
    ms_per_km: float
    nearest_hubs: int
    reach_km: float
    radius_km: float


def vector(lat: float, lon: float) -> Vector:
    """A place on the unit sphere; degrees in."""
    phi, lam = math.radians(lat), math.radians(lon)
    return (
        math.cos(phi) * math.cos(lam),
        math.cos(phi) * math.sin(lam),
        math.sin(phi),
    )


def great_circle_km(a: Vector, b: Vector, radius_km: float) -> float:
    """The way along the surface, from the chord: exact for near points, where acos is not."""
    chord = math.dist(a, b)
    return 2.0 * radius_km * math.asin(min(1.0, chord / 2.0))


def places_from(model: Model, lat: float, lon: float, *, metric: str = "rtt") -> Places:
    """The clusters as seen from a point."""
    here = vector(lat, lon)
    km = [great_circle_km(here, cluster, model.radius_km) for cluster in model.clusters]
    return sorted_places(model.names, round_trips(model, here), km, metric=metric)


def round_trips(model: Model, here: Vector) -> list[float]:
    """Estimated round trip to each cluster, in ms."""
    x, y, z = here
    # The nearest hubs have the greatest dot product; the way in km is needed for those few only.
    closeness = sorted(
        [(-x * h[0] - y * h[1] - z * h[2], at) for at, (h, _) in enumerate(model.hubs)]
    )
    best = [math.inf] * len(model.clusters)
    for nth, (_, at) in enumerate(closeness[: model.nearest_hubs]):
        hub = model.hubs[at]
        away_km = great_circle_km(here, hub.at, model.radius_km)
        if nth and away_km > model.reach_km:
            break  # beyond reach there is no cable of that length to be assumed: Uruguay, Johannesburg
        way_ms = model.access_ms + model.ms_per_km * away_km
        for cluster, onward_ms in enumerate(hub.rtt_ms):
            best[cluster] = min(best[cluster], way_ms + onward_ms)
    return best


def sorted_places(
    names: Sequence[str], rtt_ms: Sequence[float], km: Sequence[float], *, metric: str
) -> Places:
    """Nearest first: whole ms, then whole km, then the cluster's name (`distance`: km, name)."""
    ms = tuple(round(value) for value in rtt_ms)
    whole_km = tuple(round(value) for value in km)
    lead = ms if metric == "rtt" else whole_km
    keys = sorted((lead[at], whole_km[at], name, at) for at, name in enumerate(names))
    return Places(tuple(key[3] for key in keys), ms, whole_km)


def measured_places(
    names: Sequence[str],
    estimate: Places,
    samples: Iterable[tuple[int, tuple[float, ...]]],
    *,
    among: int,
) -> Places | None:
    """The places by the client's own medians, where each cluster of `among` has enough samples."""
    medians = {at: _median(taken) for at, taken in samples if len(taken) >= SAMPLES_NEEDED}
    if any(among >> at & 1 and at not in medians for at in range(len(names))):
        return None
    rtt = [medians.get(at, float(ms)) for at, ms in enumerate(estimate.rtt_ms)]
    return sorted_places(names, rtt, estimate.km, metric="rtt")


def _median(samples: tuple[float, ...]) -> float:
    # Written out: importing `statistics` costs a third of a cold start.
    ordered, half = sorted(samples), len(samples) // 2
    return ordered[half] if len(samples) % 2 else (ordered[half - 1] + ordered[half]) / 2
