"""What the console reads: spaces through the directory, instances, queues, rejected messages."""

from __future__ import annotations

import asyncio
import functools
import json
from typing import TYPE_CHECKING

from spaces import operations
from spaces.clusters import CLUSTERS
from spaces.errors import FieldError, InvalidError, KpaxError
from spaces.model import Status
from spaces.registry import Registry
from spaces.settings import ROOT
from spaces.views import space_view

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from spaces.model import Space
    from spaces.ports import Instance, Ports
    from spaces.settings import Settings
    from spaces.views import SpaceView

REJECTED = "rejected"
AT_ONCE = 16


async def spaces(
    ports: Ports, *, cluster: str | None = None, status: str | None = None
) -> list[Space]:
    """Spaces of a cluster and in a status, oldest first; all where none is named.

    The directory names them, point reads tell their state: an answer is never older than the last
    commit. Raises `InvalidError` for a cluster or status that does not exist.
    """
    _known("cluster", cluster, list(CLUSTERS))
    _known("status", status, list(Status))
    registry, gate = Registry(ports.tables), asyncio.Semaphore(AT_ONCE)

    async def load(space_id: str) -> Space | None:
        async with gate:
            loaded = await registry.load(space_id)
        return None if loaded is None else loaded.space

    found = await asyncio.gather(*map(load, await registry.ids(cluster=cluster)))
    chosen = [one for one in found if one is not None and status in {None, one.status}]
    return sorted(chosen, key=lambda one: (one.created_at, one.space_id))


async def view(ports: Ports, settings: Settings, space: Space) -> SpaceView:
    """A space as lists show it: with its running operation, without asking for its machines."""
    return space_view(
        space,
        url=settings.url_of(space.name, space.cluster),
        operation=await operations.running(ports, space),
    )


async def instances(ports: Ports, space: Space) -> Sequence[Instance]:
    """The machines of a space; none while it has none, or while the platform does not answer."""
    if space.resources is None:
        return ()
    try:
        return await ports.arm.instances(
            space.resources.resource_group, space.resources.scale_set
        )
    except KpaxError:
        return ()


async def rejected(ports: Ports, queue: str) -> list[dict[str, str | datetime | None]]:
    """Messages rejected from a queue, oldest first, without their bodies."""
    rows = await ports.tables.query(REJECTED, partition=queue)
    return [
        {
            "reason": str(row.values["reason"]),
            "detail": str(row.values["detail"]),
            "message_id": str(row.values["message_id"]) if "message_id" in row.values else None,
            "at": row.values["at"],  # pyright: ignore[reportReturnType]
        }
        for row in rows
    ]  # pyright: ignore[reportReturnType]


@functools.cache
def queues() -> tuple[str, ...]:
    """Names of the queues, as declared once for broker and cloud."""
    declared = json.loads((ROOT / "infra" / "queues.json").read_text())
    return tuple(str(one["name"]) for one in declared["queues"])


def _known(name: str, value: str | None, allowed: Sequence[str]) -> None:
    if value is not None and value not in allowed:
        message = f"one of {', '.join(allowed)}"
        raise InvalidError(
            f"there is no {name} {value[:64]!r}",
            remedy=f"Use {message}.",
            errors=(FieldError(pointer=f"/{name}", code="unknown", message=message),),
        )
