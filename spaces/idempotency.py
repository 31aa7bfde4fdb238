"""The same intention twice has one effect and one answer (Idempotency-Key, draft-07).

A row is inserted before the handler runs and completed after it. A row left running by a process
that died is taken over after `TAKE_OVER_S`: handlers derive their ids from the key, so that a
second run finishes what the first began.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from spaces.errors import ConflictError, KpaxError, LostRaceError, RefusedError
from spaces.ports import Delete, Insert, Replace, instant

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from spaces.ports import Ports, Scalar
    from spaces.ports import Stored as Row

IDEMPOTENCY = "idempotency"
ROW = "answer"
TAKE_OVER_S = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An answer as it is kept: status, text, headers."""

    status: int
    text: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    mimetype: str = "application/json"
    replayed: bool = False


def digest(*parts: str) -> str:
    """A row key made of foreign text: lower-case base32 of its SHA-256."""
    raw = hashlib.sha256("\n".join(parts).encode()).digest()
    return base64.b32encode(raw).decode().rstrip("=").lower()


async def once(
    ports: Ports, *, scope: str, key: str, raw: bytes, answer: Callable[[], Awaitable[Stored]]
) -> Stored:
    """The answer of the first request with this key; runs `answer` when there is none yet.

    Raises `RefusedError` for another body under the same key (422 `idempotency-key-reused`), and
    while the first still runs (409 `request-in-progress`).
    """
    partition = digest(scope, key)
    body_hash = hashlib.sha256(raw).hexdigest()
    running: dict[str, Scalar] = {
        "state": "running",
        "body": body_hash,
        "at": ports.clock.now(),
    }
    try:
        await ports.tables.commit(IDEMPOTENCY, partition, [Insert(ROW, running)])
    except ConflictError:
        row = await ports.tables.get(IDEMPOTENCY, partition, ROW)
        if row is not None:
            earlier = _earlier(row, body_hash)
            if earlier is not None:
                return earlier
            await _take_over(ports, partition, row, running)
    try:
        stored = await answer()
    except KpaxError:
        await _forget(ports, partition, running)
        raise
    await _complete(ports, partition, running, stored)
    return stored


async def _forget(ports: Ports, partition: str, running: Mapping[str, Scalar]) -> None:
    """Let the next request begin anew, unless another has taken this one over meanwhile."""
    row = await ports.tables.get(IDEMPOTENCY, partition, ROW)
    if row is None or row.values["state"] != "running" or row.values["at"] != running["at"]:
        return
    try:
        await ports.tables.commit(IDEMPOTENCY, partition, [Delete(ROW, row.etag)])
    except LostRaceError:
        return


def _earlier(row: Row, body_hash: str) -> Stored | None:
    if row.values["body"] != body_hash:
        raise RefusedError(
            "this Idempotency-Key was used for another request",
            remedy="Use a new key for a new intention.",
            slug="idempotency-key-reused",
            status=422,
        )
    if row.values["state"] != "done":
        return None
    return Stored(
        status=int(str(row.values["status"])),
        text=str(row.values["text"]),
        headers=json.loads(str(row.values["headers"])),
        mimetype=str(row.values["mimetype"]),
        replayed=True,
    )


async def _take_over(
    ports: Ports, partition: str, row: Row, running: Mapping[str, Scalar]
) -> None:
    """Go on in the place of a process that died; while it may live, refuse."""
    if ports.clock.now() - instant(row.values["at"]) < timedelta(seconds=TAKE_OVER_S):
        raise _in_progress()
    try:
        await ports.tables.commit(IDEMPOTENCY, partition, [Replace(ROW, running, row.etag)])
    except LostRaceError as error:
        raise _in_progress() from error


def _in_progress() -> RefusedError:
    return RefusedError(
        "the first request with this key still runs",
        remedy="Ask again in a second.",
        slug="request-in-progress",
        members={"retry_after_s": 1},
    )


async def _complete(
    ports: Ports, partition: str, running: Mapping[str, Scalar], stored: Stored
) -> None:
    row = await ports.tables.get(IDEMPOTENCY, partition, ROW)
    if row is None:
        return
    done: dict[str, Scalar] = {
        **running,
        "state": "done",
        "status": stored.status,
        "text": stored.text,
        "headers": json.dumps(dict(stored.headers)),
        "mimetype": stored.mimetype,
    }
    try:
        await ports.tables.commit(IDEMPOTENCY, partition, [Replace(ROW, done, row.etag)])
    except LostRaceError:
        return  # a process that took over has the same answer: ids come from the key
