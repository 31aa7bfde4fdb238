"""Messages that could not be accepted: completed on the queue, kept here with the reason.

A Python trigger cannot dead-letter with a reason of its own, and a message that is abandoned
comes back for ever; so the reason goes to a table. One row per message: the key is the broker's
sequence number, so that a redelivered message is not written twice and one without id is kept too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces.errors import ConflictError
from spaces.ports import Insert

if TYPE_CHECKING:
    from spaces.ports import Ports, Scalar

REJECTED = "rejected"
KEPT_CHARACTERS = 8_000


async def keep(
    ports: Ports,
    *,
    queue: str,
    sequence_number: int,
    message_id: str | None,
    reason: str,
    detail: str,
    body: bytes,
    is_dead: bool = False,
) -> None:
    """Keep one rejected message; repeatable. Dead letters are numbered beside the living."""
    values: dict[str, Scalar] = {
        "reason": reason,
        "detail": detail[:1_000],
        "body": body.decode("utf-8", "replace")[:KEPT_CHARACTERS],
        "at": ports.clock.now(),
    }
    if message_id is not None:
        values["message_id"] = message_id[:1_000]
    key = f"{sequence_number:020}{'-dead' if is_dead else ''}"
    try:
        await ports.tables.commit(REJECTED, queue, [Insert(key, values)])
    except ConflictError:
        return
