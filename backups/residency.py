"""May the backups of this space lie where they would? Asked before the first byte. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces.clusters import cluster_of
from spaces.errors import RefusedError

if TYPE_CHECKING:
    from spaces.model import Space


def check(space: Space) -> None:
    """Return when the customer's decision allows the backup region of the space's cluster.

    The decision named one when the space was ordered; the table of clusters names one today, in
    the same country. Where they differ nothing is stored until a person has looked.
    """
    cluster = cluster_of(space.cluster)
    ours = (cluster.azure_region, cluster.backup_region)
    if (space.azure_region, space.backup_region) == ours:
        return
    raise RefusedError(
        f"the decision allows backups of {space.azure_region} in"
        f" {space.backup_region or 'no region'}, the cluster keeps those of"
        f" {cluster.azure_region} in {cluster.backup_region}",
        where=f"space {space.space_id} · cluster {space.cluster}",
        remedy="Decide anew where this customer may live: kpax route. Nothing was stored.",
        slug="residency-violation",
    )
