"""The slow way, straight from the YAML: the oracle that the compiled decision is compared with.

Written from the text of the rules' `semantics`, with names and sets, sharing no code with
`geo_router.decide` and `geo_router.rank`: an error would have to be made twice to stay unseen.
Takes canonical requests; it checks nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from geo_router.rulebook.sources import FormerText, Rule, SectorPart

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geo_router.rulebook.sources import Sources


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What can be compared: the outcome and the clusters that remain, in order."""

    decision: str
    refusal: str | None = None
    cluster: str | None = None
    ranked: list[str] = field(default_factory=list[str])


@dataclass(frozen=True, kw_only=True)
class Read:
    """A rule in its text of the day, cut to the sector."""

    rule: Rule
    part: Rule | SectorPart | FormerText
    confidence: str


def decide(
    given: Sources,
    request: Mapping[str, Any],
    *,
    today: str,
    metric: str = "rtt",
    placement: Mapping[str, str] | None = None,
) -> Answer:
    """The outcome of a canonical request."""
    question = _Question(given, request, request.get("as_of", today))
    try:
        law = question.clusters_left()
    except _Ended as ended:
        return ended.answer
    return question.place(law, metric, placement or {})


class _Ended(Exception):  # noqa: N818 - no error: the answer is known
    def __init__(self, decision: str, refusal: str) -> None:
        super().__init__(refusal)
        self.answer = Answer(decision=decision, refusal=refusal)


class _Question:
    def __init__(self, given: Sources, request: Mapping[str, Any], day: str) -> None:
        self.given, self.request, self.day = given, request, day
        country = request["country"]
        self.read = [self.rule(country, request.get("subdivision"))]
        self.read += [self.rule(code) for code in request.get("data_subject_countries", [])]
        self.billing, self.network = (
            self.rule(request[name]) if request.get(name, country) != country else None
            for name in ("billing_country", "ip_country")
        )
        homes = {one.rule.home for one in self.read}
        self.home = homes.pop() if len(homes) == 1 else None

    def rule(self, code: str, subdivision: str | None = None) -> Read:
        sector = self.request.get("sector", "general")
        return _read(_rule_of(self.given, code, subdivision), sector, self.day)

    def clusters_left(self) -> set[str]:
        self.refusals()
        law = self.law()
        law = self.after_billing(law)
        law = self.after_certificates(law)
        return self.after_wishes(law)

    def refusals(self) -> None:
        kinds = [one.part.refuse.kind for one in self.read if one.part.refuse]
        if "sanctions" in kinds:
            raise _Ended("refused", "sanctions")
        if kinds:
            sure = any(one.part.refuse and one.confidence != "low" for one in self.read)
            raise _Ended("refused" if sure else "needs_review", "localisation")
        for one in (self.billing, self.network):
            if one and one.part.refuse and one.part.refuse.kind == "sanctions":
                raise _Ended("needs_review", "location-conflict")

    def law(self) -> set[str]:
        clusters = set(self.given.rules.clusters)
        holds = _holds(self.given, self.request, self.day)
        law = clusters.intersection(*[_opened(one, holds) for one in self.read])
        if not law:
            every = {n for n, c in self.given.rules.conditions.items() if _exists(c, self.day)}
            could = clusters.intersection(*[_opened(one, every) for one in self.read])
            raise _Ended("refused", "condition-required" if could else "residency-conflict")
        return law

    def after_billing(self, law: set[str]) -> set[str]:
        if self.billing is None:
            return law
        holds = _holds(self.given, self.request, self.day)
        left = set[str]() if self.billing.part.refuse else law & _opened(self.billing, holds)
        if not left:
            raise _Ended("needs_review", "location-conflict")
        return left

    def after_certificates(self, law: set[str]) -> set[str]:
        accept = self.request.get("accept_superseded", False)
        for name in self.request.get("certifications", []):
            law = law & _carriers(self.given, name, accept_superseded=accept)
        if not law:
            raise _Ended("refused", "certification-unavailable")
        return law

    def after_wishes(self, law: set[str]) -> set[str]:
        left = law - set(self.request.get("exclude", []))
        left &= {self.request.get("pin", name) for name in left}
        if not left:
            raise _Ended("refused", "requirement-conflict")
        if self.request.get("strict_residency"):
            left &= {self.home}
            if not left:
                raise _Ended("refused", "no-home-cluster")
        return left

    def place(self, law: set[str], metric: str, placement: Mapping[str, str]) -> Answer:
        request = self.request
        near = nearness(self.given, request, law, metric)
        order = sorted(law, key=lambda name: near[name])
        has_home = self.home in law
        by_latency = request.get("prefer") == "latency"
        if has_home and not by_latency:
            order.sort(key=lambda name: name != self.home)
        state = {c.id: c.placement_state for c in self.given.clusters.clusters} | dict(
            placement
        )
        falls_back = request.get("allow_fallback") and not request.get("strict_residency")
        moves = not has_home or by_latency or falls_back
        for name in order if moves else order[:1]:
            if state[name] == "open":
                ranked = [other for other in order if state[other] == "open"]
                return Answer(decision="allowed", cluster=name, ranked=ranked)
        return Answer(decision="queued", refusal="no-capacity", ranked=order)


def nearness(
    given: Sources, request: Mapping[str, Any], law: set[str], metric: str
) -> dict[str, tuple[float, ...]]:
    """The sort key of each cluster, without its name: the name itself breaks ties."""
    lat, lon = request.get("coordinates") or point_of(given, request["country"])
    km = {
        c.id: round(distance_km(lat, lon, c.point.lat, c.point.lon, given))
        for c in given.clusters.clusters
    }
    if metric == "distance":
        keys = {name: (far,) for name, far in km.items()}
    else:
        rtt = round_trips(given, lat, lon)
        samples: dict[str, list[float]] = request.get("measured_rtt") or {}
        if all(len(samples.get(name, [])) >= 3 for name in law):
            rtt |= {name: _middle(taken) for name, taken in samples.items() if len(taken) >= 3}
        keys = {name: (round(ms), km[name]) for name, ms in rtt.items()}
    rank_of_name = {name: at for at, name in enumerate(sorted(keys))}
    return {name: (*key, rank_of_name[name]) for name, key in keys.items()}


def round_trips(given: Sources, lat: float, lon: float) -> dict[str, float]:
    """Estimated round trip in ms to each cluster, through the nearest published regions."""
    model = given.clusters.rtt_model
    by_distance = sorted(
        given.regions, key=lambda region: distance_km(lat, lon, region.lat, region.lon, given)
    )
    nearest = by_distance[: model.hubs]
    used = nearest[:1] + [
        region
        for region in nearest[1:]
        if distance_km(lat, lon, region.lat, region.lon, given) <= model.max_hub_km
    ]
    return {
        name: min(
            model.access_ms
            + model.ms_per_km * distance_km(lat, lon, region.lat, region.lon, given)
            + region.rtt_ms[name]
            for region in used
        )
        for name in given.rules.clusters
    }


def distance_km(lat: float, lon: float, lat2: float, lon2: float, given: Sources) -> float:
    """Great circle by the haversine formula."""
    phi, phi2 = math.radians(lat), math.radians(lat2)
    half = (
        math.sin((phi2 - phi) / 2) ** 2
        + math.cos(phi) * math.cos(phi2) * math.sin(math.radians(lon2 - lon) / 2) ** 2
    )
    return 2 * given.clusters.rtt_model.earth_radius_km * math.asin(min(1.0, math.sqrt(half)))


def point_of(given: Sources, code: str) -> tuple[float, float]:
    """The representative point of a country."""
    extra = given.extra.codes.get(code)
    if extra is not None:
        return extra.lat, extra.lon
    row = next(row for row in given.countries if row.iso2 == code)
    return row.lat, row.lon


def _rule_of(given: Sources, code: str, subdivision: str | None) -> Rule:
    wanted = given.rules.subdivisions.get(subdivision or "") or given.rules.extra_codes.get(
        code
    )
    return next(
        rule
        for rule in given.rules.rules
        if (rule.id == wanted if wanted else code in rule.countries)
    )


def _read(rule: Rule, sector: str, day: str) -> Read:
    for text in sorted(rule.history, key=lambda text: text.until):
        if day < text.until:
            return Read(rule=rule, part=text, confidence=rule.confidence)
    part = rule.sectors.get(sector)
    if part is None:
        return Read(rule=rule, part=rule, confidence=rule.confidence)
    return Read(rule=rule, part=part, confidence=part.confidence)


def _holds(given: Sources, request: Mapping[str, Any], day: str) -> set[str]:
    conditions = given.rules.conditions
    held = {name for name, condition in conditions.items() if condition.default}
    held |= {fact.condition for fact in given.facts.facts if fact.since <= day}
    held |= set(request.get("assertions", []))
    held -= set(request.get("withdrawn", []))
    return {name for name in held if _exists(conditions[name], day)}


def _exists(condition: Any, day: str) -> bool:  # noqa: ANN401 - a Condition of the sources
    return condition.effective_from is None or condition.effective_from <= day


def _opened(one: Read, holds: set[str]) -> set[str]:
    return set(one.part.allow) | {
        cluster
        for cluster, alternatives in one.part.conditional.items()
        if any(set(together) <= holds for together in alternatives)
    }


def _carriers(given: Sources, name: str, *, accept_superseded: bool) -> set[str]:
    offering = next(entry for entry in given.offerings.offerings if entry.id == name)
    counts = accept_superseded or offering.status in ("current", "renamed")
    return set(offering.clusters) if counts else set()


def _middle(samples: list[float]) -> float:
    ordered = sorted(samples)
    half = len(ordered) // 2
    if len(ordered) % 2:
        return ordered[half]
    return (ordered[half - 1] + ordered[half]) / 2
