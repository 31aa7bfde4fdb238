"""The files of rules/ as people edit them: their shapes, and reading them.

A field that is not described here is refused, so that a typing error is not a silent loss of law.
The shapes are the schema: `schemas()` gives them as JSON Schema 2020-12, and `rules compile`
writes them to rules/schema/, where an editor finds them.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

FOLDER = Path(__file__).parents[2] / "rules"
FILES = (
    "residency_rules.yaml",
    "clusters.yaml",
    "countries.csv",
    "extra_codes.yaml",
    "azure_rtt_p50.csv",
    "compliance_offerings.yaml",
    "vendor_facts.yaml",
    "obligations.yaml",
)

Confidence = Literal["high", "medium", "low"]
Alternatives = dict[str, list[list[str]]]


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all shapes: unknown fields are refused."""


class Refuse(Entry, frozen=True):
    """Nobody is hosted under this rule or part."""

    kind: Literal["sanctions", "localisation"]
    reason: str
    also: str | None = None


class SectorPart(Entry, frozen=True):
    """Replaces allow, conditional and refuse of its rule for one sector."""

    why: str
    confidence: Confidence
    strength: str
    allow: list[str] = []
    conditional: Alternatives = {}
    refuse: Refuse | None = None


class FormerText(Entry, frozen=True):
    """The rule as it stood before `until`; replaces the whole rule, sectors included."""

    until: str
    why: str
    allow: list[str] = []
    conditional: Alternatives = {}
    refuse: Refuse | None = None


class Citation(Entry, frozen=True):
    """Where a rule comes from, and whether that page was read."""

    law: str
    article: str
    url: str
    read: bool


class Rule(Entry, frozen=True):
    """One rule for a group of countries."""

    id: str
    title: str
    countries: list[str]
    basis: Literal["law", "policy", "default"]
    why: str
    citations: list[Citation]
    confidence: Confidence
    strength: str
    evidence: Literal["page-read", "recalled"]
    needs_legal_review: bool
    reviewed: str
    as_of: str
    effective_from: str | None
    effective_to: str | None
    home: str | None = None
    allow: list[str] = []
    conditional: Alternatives = {}
    refuse: Refuse | None = None
    sectors: dict[str, SectorPart] = {}
    history: list[FormerText] = []
    review_by: str | None = None
    flags: list[str] = []


class Condition(Entry, frozen=True):
    """Something that may hold; who can say so, and from when it can hold at all."""

    holder: Literal["customer", "vendor", "contract"]
    default: bool
    text: str
    effective_from: str | None = None


class Rules(Entry, frozen=True):
    """residency_rules.yaml."""

    version: str
    as_of: str
    strength_values: dict[str, str]
    evidence_values: dict[str, str]
    disclaimer: str
    clusters: list[str]
    sectors: list[str]
    semantics: dict[str, str]
    conditions: dict[str, Condition]
    subdivisions: dict[str, str]
    extra_codes: dict[str, str]
    default_rule: str
    rules: list[Rule]


class Point(Entry, frozen=True):
    """Degrees, north and east positive."""

    lat: float
    lon: float


class BackupRegion(Entry, frozen=True):
    """Where backups of a cluster are kept."""

    azure_region: str
    azure_display_name: str
    physical_location: str
    availability_zones: int
    access_restricted: bool
    paired: bool
    same_country: bool


class Cluster(Entry, frozen=True):
    """One of the six places."""

    id: str
    aliases: list[str]
    display_name: str
    azure_region: str
    azure_display_name: str
    country: str
    jurisdiction: str
    geography: str
    physical_location: str
    point: Point
    published: Point
    availability_zones: int
    zones_verified: bool
    backup_region: BackupRegion
    placement_state: Literal["open", "full", "draining", "closed", "degraded"]
    note: str | None = None


class RttModel(Entry, frozen=True):
    """The figures of the round-trip estimate; geo_router/rank.py says how they are used."""

    table: str
    access_ms: float
    ms_per_km: float
    hubs: int
    max_hub_km: float
    earth_radius_km: float
    sort: str
    accuracy: str


class Clusters(Entry, frozen=True):
    """clusters.yaml."""

    version: str
    as_of: str
    notes: list[str]
    rtt_model: RttModel
    clusters: list[Cluster]


class Offering(Entry, frozen=True):
    """A certification, attestation, contract or guide of the platform's vendor: never ours."""

    id: str
    title: str
    category: str
    url: str
    countries: list[str]
    clusters: list[str]
    scope: str
    status: Literal["current", "renamed", "superseded", "retired"]
    confidence: Confidence
    note: str | None = None


class Offerings(Entry, frozen=True):
    """compliance_offerings.yaml."""

    version: str
    as_of: str
    listed: int
    dropped: list[str]
    rule: str
    claim: str
    scopes: dict[str, str]
    offerings: list[Offering]


class ExtraCode(Entry, frozen=True):
    """A code in use that ISO 3166-1 does not list."""

    name: str
    lat: float
    lon: float
    basis: str


class ExtraCodes(Entry, frozen=True):
    """extra_codes.yaml."""

    version: str
    codes: dict[str, ExtraCode]
    aliases: dict[str, str]


class VendorFact(Entry, frozen=True):
    """A condition of the vendor or the contract that a person has checked and signed for."""

    condition: str
    since: str
    evidence: str
    reviewed_by: str


class VendorFacts(Entry, frozen=True):
    """vendor_facts.yaml."""

    version: str
    facts: list[VendorFact]


class Duty(Entry, frozen=True):
    """A text to show beside the answer."""

    text: str
    countries: list[str] = []


class Obligations(Entry, frozen=True):
    """obligations.yaml."""

    version: str
    data_kinds: dict[str, Duty]
    flags: dict[str, Duty]


class Change(Entry, frozen=True):
    """One edition of the rules: what was changed, why, by whom, and who looked at it."""

    version: str
    data_hash: str
    date: str
    what: str
    why: str
    source: str
    author: str
    reviewer: str | None
    legal_reviews: dict[str, str] = {}
    """Rule id → reference of the legal review that ends its `needs_legal_review`."""


class Changes(Entry, frozen=True):
    """CHANGES.yaml, newest first."""

    changes: list[Change]


class Country(Entry, frozen=True):
    """A row of countries.csv."""

    iso2: str
    iso3: str
    numeric: str
    name: str
    continent: str
    capital: str
    lat: float
    lon: float
    basis: str


class Region(msgspec.Struct, frozen=True, kw_only=True):
    """A row of azure_rtt_p50.csv: a region and its round trip to each cluster in ms."""

    name: str
    lat: float
    lon: float
    rtt_ms: dict[str, float]


class Sources(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of rules/ that the router reads."""

    rules: Rules
    clusters: Clusters
    countries: list[Country]
    extra: ExtraCodes
    regions: list[Region]
    offerings: Offerings
    facts: VendorFacts
    obligations: Obligations


def read(folder: Path = FOLDER) -> Sources:
    """The files of a folder, checked against their shapes; the message names file and place."""
    return Sources(
        rules=_yaml(folder / "residency_rules.yaml", Rules),
        clusters=_yaml(folder / "clusters.yaml", Clusters),
        countries=[
            msgspec.convert(row, Country, strict=False)
            for row in _csv(folder / "countries.csv")
        ],
        extra=_yaml(folder / "extra_codes.yaml", ExtraCodes),
        regions=[_region(row) for row in _csv(folder / "azure_rtt_p50.csv")],
        offerings=_yaml(folder / "compliance_offerings.yaml", Offerings),
        facts=_yaml(folder / "vendor_facts.yaml", VendorFacts),
        obligations=_yaml(folder / "obligations.yaml", Obligations),
    )


def read_changes(folder: Path = FOLDER) -> Changes:
    """The log of editions of a rules folder; it is about the compiled table, so no part of it."""
    return _yaml(folder / "CHANGES.yaml", Changes)


def schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema of each YAML file, by file name."""
    shapes = {
        "residency_rules.yaml": Rules,
        "clusters.yaml": Clusters,
        "extra_codes.yaml": ExtraCodes,
        "compliance_offerings.yaml": Offerings,
        "vendor_facts.yaml": VendorFacts,
        "obligations.yaml": Obligations,
        "CHANGES.yaml": Changes,
    }
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {name: head | msgspec.json.schema(shape) for name, shape in shapes.items()}


class _UniqueKeyLoader(yaml.CSafeLoader):
    """Refuses a key that stands twice in one mapping: plain YAML keeps the last without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        twice = sorted({str(key) for key in keys if keys.count(key) > 1})
        if twice:
            raise yaml.constructor.ConstructorError(
                None, None, f"key stands twice: {', '.join(twice)}", node.start_mark
            )
        return super().construct_mapping(node, deep=deep)


def _yaml[T](path: Path, shape: type[T]) -> T:
    with path.open("rb") as file:
        loaded = yaml.load(file, Loader=_UniqueKeyLoader)  # noqa: S506 - a safe loader, stricter
    try:
        return msgspec.convert(loaded, shape)
    except msgspec.ValidationError as error:
        raise ValueError(f"{path.name}: {error}") from error


def _csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(line for line in file if not line.startswith("#")))


def _region(row: dict[str, str]) -> Region:
    own = {"source_region", "lat", "lon"}
    return Region(
        name=row["source_region"],
        lat=float(row["lat"]),
        lon=float(row["lon"]),
        # An empty cell is the region itself.
        rtt_ms={name: float(cell or 0) for name, cell in row.items() if name not in own},
    )
