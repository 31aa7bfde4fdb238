"""Pauses of a cluster or of the fleet: nothing new starts there, what runs holds before its next step.

One small partition holds them all, so that a pause, its audit entry and the head of that chain are
one transaction. What runs is told through the space's own row (`spaces.saga.halts`): a step reads
nothing more than its space.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from spaces import audit
from spaces.clusters import CLUSTERS
from spaces.errors import ConflictError, LostRaceError, NotFoundError, RefusedError
from spaces.model import Mark
from spaces.ports import Delete, Insert, Replace, instant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from spaces.model import Space
    from spaces.ports import Ports, Stored, Tables, Write

PAUSES = "pauses"
PARTITION = "pauses"
FLEET = "fleet"
HEAD = "state_audit"


def scope_of(cluster: str | None) -> str:
    """The row of a cluster's pause, or of the fleet's. Raises `NotFoundError` for no such cluster."""
    if cluster is None:
        return FLEET
    if cluster not in CLUSTERS:
        raise NotFoundError(
            f"no cluster {cluster[:64]}", remedy=f"Use one of {', '.join(CLUSTERS)}."
        )
    return f"cluster!{cluster}"


async def in_force(tables: Tables) -> dict[str, Mark]:
    """Every pause that stands, by scope; one read."""
    rows = await tables.query(
        PAUSES, partition=PARTITION, key_from="cluster!", key_below=FLEET + "~"
    )
    return {row.key: _mark(row) for row in rows}


def over(space: Space, pauses: Mapping[str, Mark]) -> Mark | None:
    """The pause that a space is under: its cluster's, or the fleet's."""
    return pauses.get(f"cluster!{space.cluster}") or pauses.get(FLEET)


async def refuse_paused(tables: Tables, space: Space) -> None:
    """Raise `RefusedError` where the space's cluster or the fleet is paused."""
    mark = over(space, await in_force(tables))
    if mark is not None:
        raise RefusedError(
            f"its cluster or the fleet is paused by {mark.actor}: {mark.reason}",
            where=f"space {space.space_id} · cluster {space.cluster}",
            remedy="Go on: kpax unpause cluster CLUSTER, or kpax unpause fleet.",
            slug="paused",
        )


async def put(ports: Ports, scope: str, mark: Mark, *, cause_id: str) -> None:
    """Pause a scope. Raises `RefusedError` where it is paused; the same cause again changes nothing.

    Raises `LostRaceError` or `ConflictError` where another is written at the same moment.
    """
    tables = ports.tables
    if await _row(tables, _seen(cause_id)) is not None:
        return
    await check(tables, scope, on=True)
    values = {"reason": mark.reason, "actor": mark.actor, "at": mark.at}
    await _commit(tables, Insert(scope, values), f"{scope}.paused", mark, cause_id)


async def lift(ports: Ports, scope: str, mark: Mark, *, cause_id: str) -> None:
    """End a pause; `mark` says who and why. Raises like `put`; `RefusedError` where there is none."""
    tables = ports.tables
    if await _row(tables, _seen(cause_id)) is not None:
        return
    there = await check(tables, scope, on=False)
    gone = Delete(scope, there.etag if there is not None else None)
    await _commit(tables, gone, f"{scope}.unpaused", mark, cause_id)


async def check(tables: Tables, scope: str, *, on: bool) -> Stored | None:
    """The row of a scope's pause; `RefusedError` where it stands and shall be set, or the reverse."""
    there = await _row(tables, scope)
    if on and there is not None:
        raise _refused(f"{_said(scope)} is paused already: {_mark(there).reason}")
    if not on and there is None:
        raise _refused(f"{_said(scope)} is not paused")
    return there


async def _commit(tables: Tables, write: Write, act: str, mark: Mark, cause_id: str) -> None:
    """The write with its audit entry; what caused it is written too, so that it counts once."""
    there = await _row(tables, HEAD)
    head = audit.Head()
    if there is not None:
        head = audit.Head(seq=int(str(there.values["seq"])), hash=str(there.values["hash"]))
    entry = audit.Entry(act=act, actor=mark.actor, obj=PAUSES, detail={"reason": mark.reason})
    after, text = audit.append(head, entry, space_id=PAUSES, at=mark.at)
    values = {"seq": after.seq, "hash": after.hash}
    writes: list[Write] = [
        write,
        Insert(HEAD, values) if there is None else Replace(HEAD, values, there.etag),
        Insert(f"aud!{after.seq:012}", {"entry": text}),
        Insert(_seen(cause_id), {"at": mark.at}),
    ]
    try:
        await tables.commit(PAUSES, PARTITION, writes)
    except (ConflictError, LostRaceError):
        if await _row(tables, _seen(cause_id)) is None:
            raise


async def _row(tables: Tables, key: str) -> Stored | None:
    return await tables.get(PAUSES, PARTITION, key)


def _seen(cause_id: str) -> str:
    return f"in!{cause_id}"


def _mark(row: Stored) -> Mark:
    values = row.values
    return Mark(
        reason=str(values["reason"]), actor=str(values["actor"]), at=instant(values["at"])
    )


def _said(scope: str) -> str:
    return "the fleet" if scope == FLEET else f"cluster {scope.removeprefix('cluster!')}"


def _refused(what: str) -> RefusedError:
    return RefusedError(what, remedy="See: kpax pause list.")
