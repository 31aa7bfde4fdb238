"""The six clusters: where each stands, and where its backups may be copied.

Cluster and backup region lie in the same country for all six, so that no backup leaves it. A test
compares this table with rules/clusters.yaml, which people edit.
"""

from __future__ import annotations

from dataclasses import dataclass

from spaces.errors import InvalidError


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """One of the six places."""

    cluster: str
    country: str
    azure_region: str
    backup_region: str


_ROWS = (
    ("france", "FR", "francecentral", "francesouth"),
    ("uk", "GB", "uksouth", "ukwest"),
    ("united-states", "US", "eastus2", "centralus"),
    ("canada", "CA", "canadacentral", "canadaeast"),
    ("south-africa", "ZA", "southafricanorth", "southafricawest"),
    ("india", "IN", "centralindia", "southindia"),
)

CLUSTERS: dict[str, Cluster] = {
    cluster: Cluster(
        cluster=cluster, country=country, azure_region=region, backup_region=backup
    )
    for cluster, country, region, backup in _ROWS
}


def cluster_of(name: str) -> Cluster:
    """The cluster of that name; raises `InvalidError` for one that is none of the six."""
    try:
        return CLUSTERS[name]
    except KeyError as error:
        raise InvalidError(
            f"there is no cluster {name!r}", remedy=f"Clusters: {', '.join(CLUSTERS)}."
        ) from error
