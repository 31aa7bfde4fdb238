"""What is asked and what is decided: values only.

Clusters are numbered in the order of rules/clusters.yaml and sets of them are bit masks (bit i =
cluster i); conditions likewise, in the order of rules/residency_rules.yaml. Names come back in
`explain.py`. A date is its ISO text, so that comparing dates is comparing texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

COUNTED_STATUS = ("current", "renamed")
"""A certification in one of these states counts; `superseded` and `retired` only where accepted."""


class Decision(StrEnum):
    """The four outcomes; there is no fifth."""

    ALLOWED = "allowed"
    REFUSED = "refused"
    QUEUED = "queued"
    NEEDS_REVIEW = "needs_review"


class Refusal(StrEnum):
    """Why it is not allowed: a closed set."""

    SANCTIONS = "sanctions"
    LOCALISATION = "localisation"
    CONDITION_REQUIRED = "condition-required"
    RESIDENCY_CONFLICT = "residency-conflict"
    CERTIFICATION_UNAVAILABLE = "certification-unavailable"
    REQUIREMENT_CONFLICT = "requirement-conflict"
    NO_HOME_CLUSTER = "no-home-cluster"
    NO_CAPACITY = "no-capacity"
    LOCATION_CONFLICT = "location-conflict"
    UNKNOWN_COUNTRY = "unknown-country"
    INVALID_INPUT = "invalid-input"


class Role(StrEnum):
    """Why a rule was read."""

    ESTABLISHMENT = "establishment"
    DATA_SUBJECTS = "data-subjects"
    BILLING = "billing"
    NETWORK = "network"


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A checked request: codes resolved, lists sorted and without duplicates, defaults filled in."""

    country: str
    subdivision: str | None = None
    sector: str = "general"
    coordinates: tuple[float, float] | None = None
    subjects: tuple[str, ...] = ()
    billing: str | None = None
    network: str | None = None
    asserted: int = 0
    withdrawn: int = 0
    certifications: tuple[str, ...] = ()
    pin: int | None = None
    exclude: int = 0
    by_latency: bool = False
    strict: bool = False
    may_fall_back: bool = False
    superseded_counts: bool = False
    measured: tuple[tuple[int, tuple[float, ...]], ...] = ()
    data_kinds: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What is known of the caller's network.

    `source`: `none` nobody looked, `address` the database was asked (and may know no country),
    `unavailable` the database cannot be read. `outranks` an `ip_country` of the request: a caller
    whom we do not know does not choose what speaks against them.
    """

    country: str | None = None
    source: Literal["none", "address", "unavailable"] = "none"
    outranks: bool = False


NO_EVIDENCE = Evidence()


class Part(NamedTuple):
    """What a rule says for one sector: open clusters, clusters under conditions, or a no."""

    allow: int
    ways: tuple[tuple[int, int], ...]
    """(condition mask, cluster mask): open where all the conditions hold; sorted."""
    refusal: str | None
    reason: str
    confidence: str
    strength: str
    why: str
    own: bool
    """True where the rule has a part of its own for this sector."""


class Text(NamedTuple):
    """A rule as it stood until a date (exclusive), or as it stands (None)."""

    until: str | None
    parts: dict[str, Part]


class Rule(NamedTuple):
    """One entry of rules/residency_rules.yaml."""

    id: str
    title: str
    home: int | None
    older: tuple[Text, ...]
    """Former texts, the oldest first."""
    now: dict[str, Part]
    basis: str
    evidence: str
    needs_legal_review: bool
    citations: tuple[str, ...]
    sources: tuple[str, ...]
    review_by: str | None
    documented_from: str | None
    """The day from which the text is known; None where a former text is on record."""
    flags: tuple[str, ...]


class Fired(NamedTuple):
    """A rule that was read, in the part and the text that counted, and for whom."""

    rule: Rule
    part: Part
    role: Role
    country: str


class Places(NamedTuple):
    """The six clusters as seen from one point: nearest first, with whole ms and km per cluster."""

    order: tuple[int, ...]
    rtt_ms: tuple[int, ...]
    km: tuple[int, ...]


class Stages(NamedTuple):
    """The clusters still in the set after each step; what a step took away is its difference."""

    law: int = 0
    evidence: int = 0
    certification: int = 0
    wishes: int = 0
    strict: int = 0


class Verdict(NamedTuple):
    """A decision with all that explains it; a tuple, because half a million a second are wanted."""

    decision: Decision
    refusal: Refusal | None
    cluster: int | None
    """The cluster chosen; for a queued request the one it waits for; else None."""
    fired: tuple[Fired, ...]
    """The rules that made the law: establishment first, then data subjects by country."""
    evidence: tuple[Fired, ...]
    """The rules of the billing and network country, where they were read."""
    stages: Stages
    home: int | None
    places: Places | None
    open_now: int
