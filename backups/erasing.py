"""The last of a space: its keys destroyed, shown by a restore that fails, its backups removed.

The wrapped data key goes first: from then on no byte of any backup can be read by anybody. That is
shown on the bytes that are still there; then they go, or stay where a policy keeps them unreadable.
A space that never had data has no backups, and leaves the same tombstone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from backups import catalogue
from backups.ending import purged
from backups.keyring import KEY_NAME, KEYS
from backups.restore import found
from spaces import hosts, names, stack
from spaces.errors import ConflictError, DamagedError, NotFoundError
from spaces.forgetting import NOBODY, forget_subscription, nameless
from spaces.lifecycle import held_by
from spaces.model import BackupId, Tombstone, replace
from spaces.ports import Delete
from spaces.registry import SPACES
from spaces.saga.outcomes import Done, Failed, Outcome, Wait

if TYPE_CHECKING:
    from backups.places import Places
    from spaces.model import Facts, Space
    from spaces.ports import Ports
    from spaces.saga.outcomes import Work

# Objects removed in one call of the function, and rows in one transaction.
MOST_OBJECTS = 300
MOST_ROWS = 90
NO_REQUEST = '{"country": ""}'


class Erasure:
    """The steps of an erasure."""

    def __init__(self, places: Places) -> None:
        self._places = places

    async def guard(self, ports: Ports, work: Work) -> Outcome:
        """Done when nothing forbids it and nothing of it runs any more."""
        space = work.space
        held = held_by(space)
        if held is not None:
            return _refused(space, held)
        if space.had_data and space.deleted_at is None:
            return _refused(space, "it had data, and was not deleted")
        if space.retain_until is not None and work.now < space.retain_until:
            return _refused(space, f"its backups are kept until {space.retain_until:%Y-%m-%d}")
        removing = await stack.all_removed(ports, work)
        if removing is not None:
            return removing
        rows = await catalogue.rows(ports.tables, space.space_id)
        facts: Facts = {"backups": len(rows)}
        return Done(
            detail="it had data" if space.had_data else "it never had data", facts=facts
        )

    async def destroy_keys(self, ports: Ports, work: Work) -> Outcome:
        """The data key, and every secret of it that the cluster's vault holds; no copy is left."""
        space = work.space
        store = self._places.store(ports, space)
        gone = [KEY_NAME] if space.had_data else []
        async for info in store.blobs.list(store.container, prefix=KEYS):
            await store.blobs.delete(store.container, info.name)
            gone.append(info.name)
        async for info in store.blobs.list(store.container, prefix=KEYS):
            return Wait(delay_s=0, detail=f"{info.name} is still there")
        kept: list[str] = []
        for number in range(1, space.incarnation + 1):
            secrets = names.secrets_of(replace(space, incarnation=number))
            kept += [one for one in secrets if not await ports.secrets.delete(store.vault, one)]
        outcome = await purged(ports, work)
        if not isinstance(outcome, Done):
            return outcome
        facts: Facts = {"keys": ",".join(sorted(set(gone)))}
        told = f"; deleted, and kept by the vault's protection: {', '.join(kept)}"
        return Done(
            detail=f"destroyed: {facts['keys'] or 'there was no key'}{told if kept else ''}",
            facts=facts,
        )

    async def prove(self, ports: Ports, work: Work) -> Outcome:
        """Begin a restore of the last backup, as anybody would, and see that it cannot be read."""
        space = work.space
        rows = await catalogue.rows(ports.tables, space.space_id)
        newest = catalogue.newest_good(rows)
        chosen = space.final_backup or (newest and BackupId(newest.backup_id))
        if chosen is None:
            return Done(detail="no backup", facts={"proof": "there was no backup to restore"})
        engine, store = self._places.engine(ports), self._places.store(ports, space)
        try:
            await found(engine, store, chosen)
        except (DamagedError, NotFoundError) as error:
            proof = f"a restore of {chosen} on {work.now:%Y-%m-%d %H:%M} UTC failed: {error}"
            return Done(detail=proof, facts={"proof": proof[:900]})
        return Failed(reason=f"{chosen} can still be read: its key is not destroyed")

    async def destroy_backups(self, ports: Ports, work: Work) -> Outcome:
        """Remove every object, some hundred at a time; those that a policy keeps stay unreadable."""
        space = work.space
        store = self._places.store(ports, space)
        kept = removed = 0
        async for info in store.blobs.list(store.container):
            if removed == MOST_OBJECTS:
                return Wait(delay_s=0, detail="removing its backups", began=True)
            try:
                await store.blobs.delete(store.container, info.name)
                removed += 1
            except ConflictError:
                kept += 1
        if not kept:
            await store.blobs.delete_container(store.container)
        keys = [
            f"bkp!{row.backup_id}" for row in await catalogue.rows(ports.tables, space.space_id)
        ]
        for start in range(0, len(keys), MOST_ROWS):
            batch = [Delete(key) for key in keys[start : start + MOST_ROWS]]
            await ports.tables.commit(SPACES, space.space_id, batch)
        told = f"{kept} objects stay, unreadable, until their immutability ends"
        return Done(detail=told if kept else "no object is left")

    async def settle(self, ports: Ports, work: Work) -> Outcome:
        """Leave the tombstone, and nothing that tells of a person."""
        space = work.space
        if not space.had_data:
            await hosts.free(ports, name=space.name, space_id=space.space_id)
        if space.subscription is not None:
            await forget_subscription(ports.tables, space.subscription)
        keys = str(work.op.facts.get("keys") or "")
        tombstone = Tombstone(
            at=work.now,
            never_had_data=not space.had_data,
            keys_destroyed=tuple(key for key in keys.split(",") if key),
            backups_destroyed=int(work.op.facts.get("backups") or 0),
            proof=str(work.op.facts.get("proof") or ""),
        )
        return Done(
            detail="erased", change=lambda space: replace(_nameless(space), tombstone=tombstone)
        )


def _nameless(space: Space) -> Space:
    """The space without what tells of its customer; ids, cluster, times and the name stay."""
    return replace(
        space,
        customer_ref=NOBODY,
        route_request=NO_REQUEST,
        decision="{}",
        billing=None if space.billing is None else nameless(space.billing),
        app_settings=(),
        override=None,
        last_backup=None,
        failure=None,
        resources=None,
    )


def _refused(space: Space, why: str) -> Failed:
    return Failed(reason=f"space {space.space_id} is not erased: {why}")
