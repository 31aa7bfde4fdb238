"""The shapes of the HTTP contract, from which the JSON Schemas in `schema/` are made.

`python -m geo_router.wire` writes them; `--check` exits 1 when they are stale. The router itself
reads requests in `reading.py`, which names every wrong field at once; a test holds the two together.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

FOLDER = Path(__file__).parent / "schema"

Sector = Literal["general", "health", "finance", "payments", "public"]
Sample = Annotated[float, msgspec.Meta(gt=0, lt=5000)]


class RouteRequest(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Where may a customer's space live? Only `country` is needed; unknown fields are refused."""

    country: Annotated[str, msgspec.Meta(description="ISO 3166-1 alpha-2; UK, EL, XK too")]
    subdivision: str | msgspec.UnsetType = msgspec.UNSET
    sector: Sector = "general"
    coordinates: tuple[float, float] | msgspec.UnsetType = msgspec.UNSET
    data_subject_countries: Annotated[list[str], msgspec.Meta(max_length=32)] = []
    billing_country: str | msgspec.UnsetType = msgspec.UNSET
    ip_country: str | msgspec.UnsetType = msgspec.UNSET
    assertions: list[str] = []
    withdrawn: list[str] = []
    certifications: list[str] = []
    pin: str | msgspec.UnsetType = msgspec.UNSET
    exclude: list[str] = []
    prefer: Literal["residency", "latency"] = "residency"
    strict_residency: bool = False
    allow_fallback: bool = False
    accept_superseded: bool = False
    measured_rtt: dict[str, list[Sample]] | msgspec.UnsetType = msgspec.UNSET
    as_of: Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d{2}-\d{2}$")] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    data_kinds: list[str] = []


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the parts of an answer."""


class Backup(Shape, frozen=True):
    """Where the cluster's backups are kept."""

    azure_region: str
    same_country: bool
    in_allowed_set: bool


class Ranked(Shape, frozen=True):
    """A cluster that remains, in the order of choice."""

    cluster: str
    rtt_ms: int
    km: int
    why: list[Literal["home", "allowed", "conditional", "pinned", "not-open"]]


class Excluded(Shape, frozen=True):
    """A cluster that is out, by what, and the smallest sets of conditions that would open it.

    `by` is a rule id, or certification, exclude, pin, strict_residency, placement; `missing` is
    null where no condition would help.
    """

    cluster: str
    by: str
    missing: list[list[str]] | None


class Rule(Shape, frozen=True):
    """A rule that counted, with its sources."""

    id: str
    title: str
    role: Literal["establishment", "data-subjects", "billing", "network"]
    countries: list[str]
    basis: Literal["law", "policy", "default"]
    why: str
    refuses: str | None
    strength: str
    confidence: Literal["high", "medium", "low"]
    evidence: Literal["page-read", "recalled"]
    needs_legal_review: bool
    citations: list[str]
    sources: list[str]


class Obligation(Shape, frozen=True):
    """Something to look after beside the place; it never changes the place."""

    id: str
    text: str


class Assertion(Shape, frozen=True):
    """What was declared to be true, and who can say so."""

    id: str
    holder: Literal["customer", "vendor", "contract"]
    text: str


class IpEvidence(Shape, frozen=True):
    """The country of the network, and whence: the request, the caller's address, or nobody looked.

    `unavailable`: a database is configured and cannot be read.
    """

    country: str | None
    source: Literal["request", "address", "none", "unavailable"]


class Data(Shape, frozen=True):
    """The rules that were used."""

    version: str
    hash: str


class Wrong(Shape, frozen=True):
    """One wrong field of a request."""

    pointer: str
    code: str
    message: str


class RouteAnswer(Shape, frozen=True):
    """The decision with its reasons; `cluster` is null unless it is `allowed`.

    `errors` is there for bad input only. `token` is there for an allowed answer that may be
    ordered on: it is good until `expires_at`, once.
    """

    decision: Literal["allowed", "refused", "queued", "needs_review"]
    refusal: (
        Literal[
            "sanctions",
            "localisation",
            "condition-required",
            "residency-conflict",
            "certification-unavailable",
            "requirement-conflict",
            "no-home-cluster",
            "no-capacity",
            "location-conflict",
            "unknown-country",
            "invalid-input",
        ]
        | None
    )
    cluster: str | None
    azure_region: str | None
    backup: Backup | None
    summary: str
    ranked: list[Ranked]
    excluded: list[Excluded]
    rules: list[Rule]
    warnings: list[str]
    obligations: list[Obligation]
    assertions: list[Assertion]
    ip_evidence: IpEvidence
    data: Data
    disclaimer: str
    as_of: str | None
    request_hash: str | None
    issued_at: str | None
    expires_at: str | None
    token: str | None
    errors: list[Wrong] | msgspec.UnsetType = msgspec.UNSET


def schemas() -> dict[str, str]:
    """The JSON Schemas (2020-12) by file name, as text."""
    shapes: dict[str, Any] = {"request.json": RouteRequest, "answer.json": RouteAnswer}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return {
        name: json.dumps(head | msgspec.json.schema(shape), indent=2, sort_keys=True) + "\n"
        for name, shape in shapes.items()
    }


def main(arguments: list[str]) -> int:
    """Write the schemas, or with `--check` say whether they are current."""
    fresh = schemas()
    if "--check" in arguments:
        return int(any((FOLDER / name).read_text() != text for name, text in fresh.items()))
    for name, text in fresh.items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
