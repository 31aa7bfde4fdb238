"""What the rules say, to be looked at: clusters, rules, and the answer for every country.

Views of the tables for HTTP and for the command line; nothing is decided for anybody here.
"""

from __future__ import annotations

import functools
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from geo_router import decide, tables
from geo_router.model import Decision, Request

if TYPE_CHECKING:
    from geo_router.model import Part, Rule
    from geo_router.tables import Tables


class Line(NamedTuple):
    """The answer for a place (country or subdivision) and a sector, without any wishes."""

    place: str
    sector: str
    decision: str
    refusal: str
    cluster: str
    ranked: str
    rule: str

    def __str__(self) -> str:
        """For a sentence: the cluster, else the outcome with its kind."""
        return self.cluster or f"{self.decision} ({self.refusal})"


def lines(rules: Tables, *, today: str) -> list[Line]:
    """Every code and subdivision with a rule of its own, times every sector, sorted."""
    places: list[tuple[str, str | None]] = [(code, None) for code in rules.countries]
    places += [(code[:2], code) for code in rules.subdivisions]
    return sorted(
        _line(rules, Request(country=country, subdivision=subdivision, sector=sector), today)
        for (country, subdivision), sector in product(places, rules.sectors)
    )


@functools.lru_cache(maxsize=2)
def coverage(today: str) -> dict[str, object]:
    """Every place with its rule and, per sector, the cluster or the outcome with its kind."""
    places: dict[str, dict[str, object]] = {}
    for line in lines(tables.load(), today=today):
        place = places.setdefault(line.place, {"place": line.place, "rule": line.rule})
        place[line.sector] = str(line)
    return {"items": list(places.values()), **_data(tables.load())}


def clusters(rules: Tables) -> dict[str, object]:
    """The six clusters with region, place, zones, state and backup region."""
    return {
        "items": [
            {
                "id": cluster.id,
                "aliases": list(cluster.aliases),
                "name": cluster.name,
                "azure_region": cluster.azure_region,
                "country": cluster.country,
                "place": cluster.place,
                "jurisdiction": cluster.jurisdiction,
                "point": [cluster.lat, cluster.lon],
                "zones": cluster.zones,
                "state": cluster.state,
                "backup": {
                    "azure_region": cluster.backup.azure_region,
                    "place": cluster.backup.place,
                    "country": cluster.backup.country,
                },
            }
            for cluster in rules.clusters
        ],
        **_data(rules),
    }


def rule_list(rules: Tables) -> dict[str, object]:
    """The rules in short."""
    return {"items": [_short(rules, rule) for rule in rules.rules], **_data(rules)}


def rule(rules: Tables, name: str) -> dict[str, object] | None:
    """One rule with what it opens in every sector, its former texts and its sources."""
    found = next((entry for entry in rules.rules if entry.id == name), None)
    if found is None:
        return None
    return {
        **_short(rules, found),
        "evidence": found.evidence,
        "sectors": {sector: _part(rules, part) for sector, part in found.now.items()},
        "history": [
            {"until": text.until, **_part(rules, text.parts["general"])} for text in found.older
        ],
        "citations": list(found.citations),
        "sources": list(found.sources),
        "disclaimer": rules.disclaimer,
        **_data(rules),
    }


def _short(rules: Tables, entry: Rule) -> dict[str, object]:
    part = entry.now["general"]
    return {
        "id": entry.id,
        "title": entry.title,
        "countries": [c.code for c in rules.countries.values() if c.rule is entry],
        "subdivisions": [code for code, own in rules.subdivisions.items() if own is entry],
        "home": None if entry.home is None else rules.clusters[entry.home].id,
        "basis": entry.basis,
        "confidence": part.confidence,
        "strength": part.strength,
        "needs_legal_review": entry.needs_legal_review,
        "review_by": entry.review_by,
    }


def _part(rules: Tables, part: Part) -> dict[str, object]:
    ids = [cluster.id for cluster in rules.clusters]
    conditional: dict[str, list[list[str]]] = {}
    for need, opened in part.ways:
        for at, name in enumerate(ids):
            if opened >> at & 1:
                conditional.setdefault(name, []).append(rules.names(need))
    return {
        "own": part.own,
        "allow": [name for at, name in enumerate(ids) if part.allow >> at & 1],
        "conditional": conditional,
        "refusal": part.refusal,
        "refuses": part.reason or None,
        "confidence": part.confidence,
        "strength": part.strength,
        "why": part.why,
    }


def _data(rules: Tables) -> dict[str, object]:
    return {"data": {"version": rules.version, "hash": rules.hash}}


def _line(rules: Tables, request: Request, today: str) -> Line:
    verdict = decide.decide(rules, request, today=today, open_now=rules.every_cluster)
    ids = [cluster.id for cluster in rules.clusters]
    order = () if verdict.places is None else verdict.places.order
    chosen = verdict.cluster if verdict.decision is Decision.ALLOWED else None
    return Line(
        place=request.subdivision or request.country,
        sector=request.sector,
        decision=str(verdict.decision),
        refusal=str(verdict.refusal or ""),
        cluster="" if chosen is None else ids[chosen],
        ranked=" ".join(ids[at] for at in order if verdict.stages.strict >> at & 1),
        rule=verdict.fired[0].rule.id,
    )
