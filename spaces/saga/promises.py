"""What the outbox promised, said again."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spaces.model import Space
    from spaces.ports import Ports
    from spaces.registry import Registry

log = logging.getLogger("kpax.saga")


async def say_again(ports: Ports, registry: Registry, space: Space) -> None:
    """Answer an old message: publish what the outbox says, nothing else."""
    following, events = await registry.promised(space.space_id)
    messages = [*events, *([following] if following and space.op is not None else [])]
    if messages:
        await ports.bus.send(messages)
    log.info("poke.stale", extra={"space": space.space_id, "sent": len(messages)})
