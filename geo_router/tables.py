"""The compiled rules in memory.

`compiled.json` beside this file is made by `geo_router.rulebook.compile`; nobody edits it. Loading
costs a few milliseconds and standard library only: it is part of every cold start.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geo_router import rank
from geo_router.model import Fired, Part, Places, Role, Rule, Text

COMPILED = Path(__file__).parent / "compiled.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """Where a cluster's backups are kept; `country` is None where it is not the cluster's own."""

    azure_region: str
    place: str
    country: str | None
    access_restricted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One of the six places."""

    id: str
    aliases: tuple[str, ...]
    name: str
    azure_region: str
    country: str
    jurisdiction: str
    place: str
    lat: float
    lon: float
    zones: int
    state: str
    backup: Backup


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """Something that may hold, who can say so, and from when it can hold at all."""

    id: str
    holder: str
    default: bool
    effective_from: str | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Offering:
    """A certification or the like of the platform's vendor, never ours."""

    id: str
    title: str
    category: str
    clusters: int
    countries: tuple[str, ...]
    scope: str
    status: str
    confidence: str
    url: str
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Country:
    """A code that may be asked for, its rule, its point and how near the clusters are to it."""

    code: str
    name: str
    rule: Rule
    lat: float
    lon: float
    near: Places
    near_by_km: Places
    fired: Mapping[str, Fired]
    """By sector: the rule in its present text, as it fires for a customer established here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Everything a decision reads."""

    version: str
    hash: str
    disclaimer: str
    claim: str
    sectors: tuple[str, ...]
    clusters: tuple[Cluster, ...]
    every_cluster: int
    """The mask of all clusters."""
    cluster_numbers: Mapping[str, int]
    """By id and by alias, lower case."""
    conditions: tuple[Condition, ...]
    condition_numbers: Mapping[str, int]
    default_conditions: int
    vendor_facts: int
    dated: tuple[tuple[str, int], ...]
    """(date, condition mask): these conditions cannot hold before that date."""
    fact_dates: tuple[tuple[str, int], ...]
    offerings: Mapping[str, Offering]
    scopes: Mapping[str, str]
    countries: Mapping[str, Country]
    aliases: Mapping[str, str]
    subdivisions: Mapping[str, Rule]
    divided: frozenset[str]
    """Countries where naming the subdivision may change the rule."""
    rules: tuple[Rule, ...]
    model: rank.Model
    data_kinds: Mapping[str, str]
    flags: Mapping[str, tuple[str, tuple[str, ...]]]

    def names(self, mask: int) -> list[str]:
        """The conditions of a mask, in the order of the file."""
        return [condition.id for condition in self.conditions_of(mask)]

    def conditions_of(self, mask: int) -> Iterator[Condition]:
        """The conditions of a mask, in the order of the file; a mask has few of the many bits."""
        while mask:
            lowest = mask & -mask
            yield self.conditions[lowest.bit_length() - 1]
            mask ^= lowest


@functools.cache
def load() -> Tables:
    """The tables this installation decides with, read once."""
    return read(COMPILED.read_bytes())


def read(compiled: bytes) -> Tables:
    """Tables from the bytes of a compiled file; their hash is the data hash."""
    raw: dict[str, Any] = json.loads(compiled)
    clusters = tuple(_cluster(entry) for entry in raw["clusters"])
    conditions = tuple(
        Condition(id=name, holder=holder, default=default, effective_from=since, text=text)
        for name, holder, default, since, text in raw["conditions"]
    )
    numbers = {condition.id: at for at, condition in enumerate(conditions)}
    sectors = tuple(raw["sectors"])
    rules = tuple(_rule(entry, sectors) for entry in raw["rules"])
    names = tuple(cluster.id for cluster in clusters)
    divided: dict[str, int] = raw["subdivisions"]
    facts = [(since, 1 << numbers[name]) for name, since in raw["vendor_facts"]]
    return Tables(
        version=raw["version"],
        hash=f"sha256:{hashlib.sha256(compiled).hexdigest()}",
        disclaimer=raw["disclaimer"],
        claim=raw["claim"],
        sectors=sectors,
        clusters=clusters,
        every_cluster=(1 << len(clusters)) - 1,
        cluster_numbers={
            name: at for at, c in enumerate(clusters) for name in (c.id, *c.aliases)
        },
        conditions=conditions,
        condition_numbers=numbers,
        default_conditions=sum(1 << at for at, c in enumerate(conditions) if c.default),
        vendor_facts=sum({bit for _, bit in facts}),
        dated=tuple(
            (c.effective_from, 1 << at)
            for at, c in enumerate(conditions)
            if c.effective_from is not None
        ),
        fact_dates=tuple(facts),
        offerings={name: _offering(name, entry) for name, entry in raw["offerings"].items()},
        scopes=raw["scopes"],
        countries={
            code: _country(code, entry, rules, names)
            for code, entry in raw["countries"].items()
        },
        aliases=raw["aliases"],
        subdivisions={code: rules[at] for code, at in divided.items()},
        divided=frozenset(code[:2] for code in divided),
        rules=rules,
        model=_model(raw["rtt_model"], clusters),
        data_kinds=raw["data_kinds"],
        flags={flag: (text, tuple(only)) for flag, (text, only) in raw["flags"].items()},
    )


def _cluster(entry: dict[str, Any]) -> Cluster:
    own: dict[str, Any] = {
        **entry,
        "aliases": tuple(entry["aliases"]),
        "backup": Backup(**entry["backup"]),
    }
    return Cluster(**own)


def _offering(name: str, entry: dict[str, Any]) -> Offering:
    own: dict[str, Any] = {**entry, "id": name, "countries": tuple(entry["countries"])}
    return Offering(**own)


def _rule(entry: dict[str, Any], sectors: tuple[str, ...]) -> Rule:
    history = tuple(
        Text(until, _parts({"general": part}, sectors)) for until, part in entry["history"]
    )
    return Rule(
        id=entry["id"],
        title=entry["title"],
        home=entry["home"],
        older=history,
        now=_parts(entry["parts"], sectors),
        basis=entry["basis"],
        evidence=entry["evidence"],
        needs_legal_review=entry["needs_legal_review"],
        citations=tuple(entry["citations"]),
        sources=tuple(entry["sources"]),
        review_by=entry["review_by"],
        documented_from=entry["effective_from"] or (None if history else entry["reviewed"]),
        flags=tuple(entry["flags"]),
    )


def _parts(entries: dict[str, Any], sectors: tuple[str, ...]) -> dict[str, Part]:
    """A part for every sector: its own, or the general one."""
    own = {sector: _part(entry) for sector, entry in entries.items()}
    general = own["general"]
    return {
        sector: own[sector]._replace(own=True)
        if sector in own and sector != "general"
        else general
        for sector in sectors
    }


def _part(entry: dict[str, Any]) -> Part:
    kind, reason = entry["refuse"] or (None, "")
    return Part(
        allow=entry["allow"],
        ways=tuple((need, opened) for need, opened in entry["ways"]),
        refusal=kind,
        reason=reason,
        confidence=entry["confidence"],
        strength=entry["strength"],
        why=entry["why"],
        own=False,
    )


def _country(
    code: str, entry: list[Any], rules: tuple[Rule, ...], names: tuple[str, ...]
) -> Country:
    name, _, lat, lon, rtt_ms, km = entry
    rule = rules[int(entry[1])]
    return Country(
        code=code,
        name=name,
        rule=rule,
        lat=lat,
        lon=lon,
        near=rank.sorted_places(names, rtt_ms, km, metric="rtt"),
        near_by_km=rank.sorted_places(names, rtt_ms, km, metric="distance"),
        fired={
            sector: Fired(rule, part, Role.ESTABLISHMENT, code)
            for sector, part in rule.now.items()
        },
    )


def _model(entry: dict[str, Any], clusters: tuple[Cluster, ...]) -> rank.Model:
    return rank.Model(
        names=tuple(cluster.id for cluster in clusters),
        hubs=tuple(
            rank.Hub(rank.vector(lat, lon), tuple(rtt_ms))
            for _, lat, lon, rtt_ms in entry["hubs"]
        ),
        clusters=tuple(rank.vector(cluster.lat, cluster.lon) for cluster in clusters),
        access_ms=entry["access_ms"],
        ms_per_km=entry["ms_per_km"],
        nearest_hubs=entry["nearest_hubs"],
        reach_km=entry["reach_km"],
        radius_km=entry["radius_km"],
    )
