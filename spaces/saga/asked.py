"""Start an operation because somebody asked for it: once per caller and key.

A second request under the same key finds the operation of the first, whatever became of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from spaces import operations
from spaces.errors import ConflictError, LostRaceError, UnknownError
from spaces.registry import Registry
from spaces.saga.begin import Cause, begin
from spaces.saga.outline import OUTLINES

if TYPE_CHECKING:
    from collections.abc import Callable

    from spaces.model import Facts, OpKind, Space
    from spaces.ports import Ports
    from spaces.registry import Loaded
    from spaces.views import OperationView

SOURCE = "api"
RACES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks, under which Idempotency-Key, and why (None: not said)."""

    caller: str
    key: str
    reason: str | None = None

    def cause_id(self, kind: OpKind) -> str:
        """Names this intention in the space's inbox."""
        return hashlib.sha256(f"{self.caller}\n{kind}\n{self.key}".encode()).hexdigest()

    def cause(
        self,
        kind: OpKind,
        params: Facts,
        change: Callable[[Space], Space] | None = None,
    ) -> Cause:
        """The cause of an operation that this request starts."""
        cause_id = self.cause_id(kind)
        return Cause(
            actor=self.caller,
            source=SOURCE,
            cause_id=cause_id,
            reason=self.reason,
            params={**params, "cause": cause_id},
            change=change,
        )


async def start(
    ports: Ports,
    kind: OpKind,
    space_name: str,
    asker: Asker,
    *,
    params: Callable[[Space], Facts],
    change: Callable[[Space], Space] | None = None,
) -> OperationView:
    """Start `kind` on a space, or find what the same request started before.

    Raises `NotFoundError`, `RefusedError` (status, running operation, pause, quarantine), whatever
    `params` raises, and `UnknownError` where others write the space all the time.
    """
    registry = Registry(ports.tables)
    for _ in range(RACES):
        loaded = await registry.find(space_name)
        earlier = await earlier_of(ports, registry, loaded, asker.cause_id(kind))
        if earlier is not None:
            return earlier
        cause = asker.cause(kind, params(loaded.space), change)
        try:
            op = await begin(ports, loaded, OUTLINES[kind], cause)
        except (LostRaceError, ConflictError):
            continue
        return await operations.show(ports, op.op_id)
    raise UnknownError(
        "the space changes faster than an operation can be started",
        where=f"space {space_name}",
        remedy="Try again.",
    )


async def earlier_of(
    ports: Ports, registry: Registry, loaded: Loaded, cause_id: str
) -> OperationView | None:
    """The operation that an earlier request with this cause started; None where there is none."""
    space_id = loaded.space.space_id
    if not await registry.has_seen(space_id, SOURCE, cause_id):
        return None
    for op in await registry.operations(space_id):
        if op.params.get("cause") == cause_id:
            return await operations.show(ports, op.op_id)
    return None
