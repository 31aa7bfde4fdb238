"""The end of a space that had data: cancelled with a final backup, later deleted.

Nothing is removed before the final backup is seen to stand, in the catalogue and in the store; and
nothing counts as removed before a look shows its absence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backups import catalogue, run
from backups.restore import found
from spaces import hosts, names, retention, stack, strays
from spaces.errors import InvalidError
from spaces.lifecycle import held_by
from spaces.model import Status, replace
from spaces.ports import StackState
from spaces.saga.outcomes import Done, Failed, Outcome, Wait

if TYPE_CHECKING:
    from backups.places import Places
    from spaces.model import Space
    from spaces.ports import Ports
    from spaces.saga.outcomes import Work


async def cancelled(ports: Ports, work: Work) -> Outcome:
    """Say until when it can come back, and which backup is its last; one without data has neither."""
    del ports
    now, space = work.now, work.space
    if space.status in {Status.REQUESTED, Status.FAILED}:
        return Done(
            detail="it never had data", change=lambda space: replace(space, cancelled_at=now)
        )
    final, until = run.backup_id(work), now + retention.grace(space)

    def change(space: Space) -> Space:
        return replace(space, cancelled_at=now, grace_until=until, final_backup=final)

    return Done(detail=f"it can come back until {until:%Y-%m-%d %H:%M} UTC", change=change)


class Deletion:
    """The steps of a deletion."""

    def __init__(self, places: Places) -> None:
        self._places = places

    async def guard(self, ports: Ports, work: Work) -> Outcome:
        """Done when nothing forbids it, and the final backup stands whole and proved."""
        space = work.space
        held = held_by(space)
        if held is not None:
            return _refused(space, held)
        if space.grace_until is None or work.now < space.grace_until:
            return _refused(space, "its grace is not over")
        if space.final_backup is None:
            return _refused(space, "it has no final backup")
        rows = await catalogue.rows(ports.tables, space.space_id)
        row = next((row for row in rows if row.backup_id == space.final_backup), None)
        if row is None or row.state != catalogue.VERIFIED:
            state = "missing" if row is None else row.state
            return _refused(space, f"its final backup {space.final_backup} is {state}")
        engine, store = self._places.engine(ports), self._places.store(ports, space)
        manifest = await found(engine, store, space.final_backup)
        return Done(detail=f"{manifest.backup_id} stands: {manifest.rows} rows, proved")

    async def remove(self, ports: Ports, work: Work) -> Outcome:
        """Delete the stack and all it made; Done only when a look shows its absence."""
        removing = await stack.all_removed(ports, work)
        return removing or Done(detail="no stack of it is left")

    async def give_up(self, ports: Ports, work: Work) -> Outcome:
        """What cannot be deleted is written down, and an operator is asked."""
        left: list[str] = []
        for number in range(1, work.space.incarnation + 1):
            name = names.stack(replace(work.space, incarnation=number))
            there = await ports.arm.get_stack(name)
            if there.state is not StackState.ABSENT:
                await strays.note(ports, there, work.space.space_id)
                left.append(name)
        if not left:
            return Done(detail="it is gone after all")
        return Failed(
            reason=f"the stack {', '.join(left)} cannot be deleted; it is among the strays"
        )

    async def purge(self, ports: Ports, work: Work) -> Outcome:
        """Nothing is left of its vaults either: a deleted one keeps name and content for a week."""
        return await purged(ports, work)

    async def settle(self, ports: Ports, work: Work) -> Outcome:
        """Hold its name, and say until when its backups are retained."""
        space, now = work.space, work.now
        until = now + retention.retained(self._places.settings)
        await hosts.hold(
            ports, name=space.name, space_id=space.space_id, until=now + retention.NAME_HELD
        )

        def change(space: Space) -> Space:
            return replace(space, deleted_at=now, retain_until=until, resources=None)

        return Done(detail=f"its backups are kept until {until:%Y-%m-%d}", change=change)


async def purged(ports: Ports, work: Work) -> Outcome:
    """Remove what the deleted vaults of all incarnations left behind."""
    kept: list[str] = []
    for number in range(1, work.space.incarnation + 1):
        name = names.vault(replace(work.space, incarnation=number))
        try:
            if not await ports.arm.purge_vault(name, work.space.azure_region):
                return Wait(delay_s=0, detail=f"purging {name}")
        except InvalidError:  # its own protection: it ends by itself, when its retention does
            kept.append(name)
    return Done(detail=f"kept by their protection: {', '.join(kept)}" if kept else "purged")


def _refused(space: Space, why: str) -> Failed:
    return Failed(reason=f"space {space.space_id} is not deleted: {why}")
