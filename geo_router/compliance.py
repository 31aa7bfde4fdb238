"""The register of the platform vendor's offerings, and which cluster carries which.

An offering says that the vendor's platform was audited, or that the vendor gives guidance or a
contract. It never says that we are certified, nor that a customer complies: we hold none, and
`OURS` says so in data. Every count is computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from geo_router.model import COUNTED_STATUS

if TYPE_CHECKING:
    from geo_router.tables import Offering, Tables

AUDITED_SCOPES = ("commercial", "commercial+government")
"""Certificates that cover the commercial cloud. The scope stands in for a reviewed assurance field."""

OURS: tuple[str, ...] = ()
"""Certifications that we hold ourselves: none."""


def listed(
    rules: Tables,
    *,
    cluster: str | None = None,
    status: str | None = None,
    scope: str | None = None,
) -> list[Offering]:
    """The offerings in the order of the register, narrowed where asked; a cluster by any name."""
    at = None if cluster is None else rules.cluster_numbers[cluster.strip().lower()]
    return [
        offering
        for offering in rules.offerings.values()
        if (at is None or offering.clusters >> at & 1)
        and status in (None, offering.status)
        and scope in (None, offering.scope)
    ]


def is_audited_and_current(offering: Offering) -> bool:
    """Whether the offering counts as the vendor's current certificate, judged by its scope."""
    return offering.scope in AUDITED_SCOPES and offering.status in COUNTED_STATUS


def counts(rules: Tables) -> list[dict[str, object]]:
    """Per cluster: offerings that name it, and those audited by the vendor and current."""
    found: list[dict[str, object]] = []
    for cluster in rules.clusters:
        carried = listed(rules, cluster=cluster.id)
        audited = [offering for offering in carried if is_audited_and_current(offering)]
        found.append(
            {
                "cluster": cluster.id,
                "carried": len(carried),
                "audited_and_current": len(audited),
                "counted_by": "scope",
            }
        )
    return found


def view(rules: Tables, offering: Offering) -> dict[str, object]:
    """An offering as the command shows it."""
    return {
        "id": offering.id,
        "title": offering.title,
        "category": offering.category,
        "held_by": "platform vendor",
        "scope": offering.scope,
        "scope_means": rules.scopes[offering.scope],
        "status": offering.status,
        "clusters": [
            c.id for at, c in enumerate(rules.clusters) if offering.clusters >> at & 1
        ],
        "countries": list(offering.countries),
        "audited_and_current": is_audited_and_current(offering),
        "confidence": offering.confidence,
        "source": offering.url,
        "note": offering.note,
    }
