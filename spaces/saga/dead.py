"""What died on its queue: five deliveries, and nobody could complete the message.

A poke that died is a step that kills its process each time: the operation waits for an operator,
with the queue's reason. What is no poke is kept as rejected. Either way the dead letter is read
and completed, so that the queue of dead letters is empty and each one is told of somewhere.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import msgspec

from spaces import rejected
from spaces.errors import ConflictError, LostRaceError, UnknownError
from spaces.messages import Poke
from spaces.registry import Registry
from spaces.saga.changes import parking
from spaces.saga.decide import stuck
from spaces.saga.outcomes import Failed
from spaces.saga.promises import say_again

if TYPE_CHECKING:
    import azure.functions as func

    from spaces.ports import Ports
    from spaces.registry import Loaded

log = logging.getLogger("kpax.saga")

REASON = "dead-letter"
RACES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Dead:
    """A dead letter as it came: its queue, its body, and what the queue says of its death."""

    queue: str
    body: bytes
    message_id: str | None
    sequence_number: int
    reason: str
    description: str

    @property
    def told(self) -> str:
        """The queue's words."""
        return ": ".join(one for one in (self.reason, self.description) if one) or "no reason"


def read(message: func.ServiceBusMessage, queue: str) -> Dead:
    """A dead letter as the Functions host hands it over."""
    told = cast("dict[str, object]", message.application_properties or {})
    reason = message.dead_letter_reason or told.get("DeadLetterReason")
    words = message.dead_letter_error_description or told.get("DeadLetterErrorDescription")
    return Dead(
        queue=queue,
        body=message.get_body(),
        message_id=message.message_id or None,
        sequence_number=message.sequence_number or 0,
        reason=str(reason or ""),
        description=str(words or ""),
    )


async def bury(ports: Ports, dead: Dead) -> None:
    """Give the operation of a dead poke to an operator, or keep the message; repeatable."""
    try:
        poke = msgspec.json.decode(dead.body, type=Poke)
    except msgspec.MsgspecError as error:
        await _keep(ports, dead, f"{dead.told}; it is no poke: {error}")
        return
    for _ in range(RACES):
        loaded = await Registry(ports.tables).load(poke.space_id)
        if loaded is None:
            await _keep(ports, dead, f"{dead.told}; there is no space {poke.space_id[:64]}")
            return
        op = loaded.space.op
        if op is None or not op.awaits(poke.ticket):
            await say_again(ports, Registry(ports.tables), loaded.space)
            return
        try:
            await _park(ports, loaded, dead)
        except (LostRaceError, ConflictError, UnknownError):
            continue
        return
    raise UnknownError(
        "the space changes faster than its dead letter can be written",
        where=f"space {poke.space_id} · {poke.ticket}",
        remedy="The dead letter comes again by itself.",
    )


async def _park(ports: Ports, loaded: Loaded, dead: Dead) -> None:
    space, now = loaded.space, ports.clock.now()
    op = space.op
    if op is None:
        return
    reason = (
        f"the message of step {op.step} died ({dead.told});"
        f" last word: {op.detail or 'none'}; look for its exception in the log of the app"
    )
    change = parking(space, stuck(op, reason), now, Failed(reason=reason))
    promised = await Registry(ports.tables).commit(loaded, change, now=now)
    log.error(
        "operation.needs_operator",
        extra={
            "space": space.space_id,
            "op": op.op_id,
            "step": op.step,
            "reason": reason,
            "see": "docs/running.md#operation.needs_operator",
        },
    )
    await ports.bus.send(promised)


async def _keep(ports: Ports, dead: Dead, detail: str) -> None:
    log.error(
        "message.died",
        extra={"queue": dead.queue, "reason": detail, "see": "docs/running.md#message.died"},
    )
    await rejected.keep(
        ports,
        queue=dead.queue,
        sequence_number=dead.sequence_number,
        message_id=dead.message_id,
        reason=REASON,
        detail=detail,
        body=dead.body,
        is_dead=True,
    )
