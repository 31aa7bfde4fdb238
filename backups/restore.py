"""A restore of one space, step by step: beside the data in force, proved, then switched.

Prepare reads the backup; load builds a database and a container beside the old ones; check proves
them row for row; switch writes one new version of the space's settings; restart lets the machines
read it; confirm asks the public URL. Up to the switch the old data serves, whatever is killed.
On the way back the same names are computed again: nothing is remembered only in memory.
"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from backups import catalogue, run
from backups.manifest import manifest_name
from backups.sealing import damaged
from spaces import configuration, names, stack
from spaces.configuration import APP_ROLE, admin_server
from spaces.errors import NotFoundError, UnreachableError
from spaces.model import BackupId, Status
from spaces.registry import Event
from spaces.saga.outcomes import Done, Failed, Outcome, Wait

if TYPE_CHECKING:
    from backups.engine import Engine, Store
    from backups.manifest import Manifest
    from backups.places import Places
    from spaces.model import Facts, Space
    from spaces.ports import Answer, Ports
    from spaces.saga.outcomes import Work

# Twice the most zones: an edge that spreads round robin has shown every healthy zone by then.
ASKED = 6


class Restore:
    """The steps of a restore."""

    def __init__(self, places: Places) -> None:
        self._places = places

    async def prepare(self, ports: Ports, work: Work) -> Outcome:
        """Read the backup and its neighbours; write down what is in force and what will be."""
        store, engine = self._places.store(ports, work.space), self._places.engine(ports)
        manifest = await found(engine, store, backup_id(work))
        gaps = await engine.gaps(store, manifest, now=work.now)
        number = run.number_of(work)
        facts: Facts = {
            "database": names.restored_database(number),
            "container": names.restored_container(number),
            "old_database": work.space.database,
            "old_container": work.space.container,
            "revision": work.space.config_revision,
        }
        told = f"{manifest.rows} rows, {manifest.attachments} attachments"
        missing = f"; damaged before it: {', '.join(gaps)}" if gaps else ""
        return Done(detail=f"{manifest.backup_id}: {told}{missing}", facts=facts)

    async def load(self, ports: Ports, work: Work) -> Outcome:
        """Fill a new database and a new container; an earlier try of this database goes first."""
        space = work.space
        base = await self._places.base(ports, space, work.fact("database"))
        files = await self._places.files(ports, space, work.fact("container"))
        store, engine = self._places.store(ports, space), self._places.engine(ports)
        await ports.databases.drop_database(base.server, base.database)
        await ports.databases.ensure_database(base.server, base.database, owner=APP_ROLE)
        async with run.bounded(work):
            manifest = await engine.find(store, backup_id(work))
            await engine.restore(store, manifest, base, files)
        return Done(detail=f"{base.database} and {files.container} are filled")

    async def unload(self, ports: Ports, work: Work) -> Outcome:
        """Remove the new database and container, unless they are what serves."""
        space = work.space
        database, container = work.fact("database"), work.fact("container")
        if database == space.database or container == space.container:
            return Failed(reason=f"{database} and {container} serve: they are not removed")
        server = await admin_server(ports, self._places.settings, space)
        await ports.databases.drop_database(server, database)
        files = await self._places.files(ports, space, container)
        await files.blobs.delete_container(container)
        return Done(detail=f"{database} and {container} are gone")

    async def check(self, ports: Ports, work: Work) -> Outcome:
        """Prove that the new ones hold exactly what the manifest says."""
        base = await self._places.base(ports, work.space, work.fact("database"))
        files = await self._places.files(ports, work.space, work.fact("container"))
        store, engine = self._places.store(ports, work.space), self._places.engine(ports)
        async with run.bounded(work):
            manifest = await engine.find(store, backup_id(work))
            await engine.prove(store, manifest, base, files)
        return Done(detail="every row and attachment is as the manifest says")

    async def switch(self, ports: Ports, work: Work) -> Outcome:
        """Tell the space's application the new names: one version of one secret."""
        switched = _with(work.space, work, "", revision=1)
        await self._tell(ports, switched)
        return Done(
            detail=f"settings revision {switched.config_revision}",
            change=lambda space: _with(space, work, "", revision=1),
        )

    async def switch_back(self, ports: Ports, work: Work) -> Outcome:
        """Tell the old names again, and let the machines read them."""
        back = _with(work.space, work, "old_", revision=2)
        await self._tell(ports, back)
        outcome = await self._deployed(ports, work, back)
        if not isinstance(outcome, Done):
            return outcome

        def change(space: Space) -> Space:
            return _with(space, work, "old_", revision=2)

        return replace(outcome, change=change)

    async def restart(self, ports: Ports, work: Work) -> Outcome:
        """PUT the space's stack with the new revision, which restarts its machines one by one."""
        return await self._deployed(ports, work, work.space)

    async def confirm(self, ports: Ports, work: Work) -> Outcome:
        """Every zone answers healthy, and no session is left on the old database."""
        space = work.space
        if space.status is Status.ACTIVE:
            missing = await self._silent_zones(ports, space)
            if missing:
                return Wait(delay_s=0, detail=missing)
        server = await admin_server(ports, self._places.settings, space)
        sessions = await self._places.data.sessions(server, names.login_role(space))
        if sessions.get(work.fact("old_database")):
            return Wait(delay_s=0, detail="a machine still works on the old database")
        kept = catalogue.Kept(
            operation_id=work.op.op_id,
            database=work.fact("old_database"),
            container=work.fact("old_container"),
            keep_until=work.now + timedelta(days=catalogue.KEPT_DAYS),
        )
        data: Facts = {"operation_id": work.op.op_id, "backup_id": backup_id(work)}
        return Done(
            detail=f"all zones serve it; the old data is kept until {kept.keep_until:%Y-%m-%d}",
            rows=(catalogue.put_kept(kept),),
            events=(Event(type="space.restored", data=data),),
        )

    async def _tell(self, ports: Ports, space: Space) -> None:
        await configuration.tell(ports, self._places.settings, space)

    async def _deployed(self, ports: Ports, work: Work, space: Space) -> Outcome:
        """See the machines run `space`'s revision; those of a suspended space read it later.

        Its stack is not touched: the machines rest, and start with the newest settings.
        """
        if space.status is not Status.ACTIVE:
            return Done(detail="the machines rest, and read it when they start")
        return await stack.stands(ports, self._places.settings, work, space, stack.REVISION)

    async def _silent_zones(self, ports: Ports, space: Space) -> str:
        """What is still missing at the public URL; empty when every zone answered."""
        url = self._places.settings.url_of(space.name, space.cluster)
        seen: set[str] = set()
        for _ in range(ASKED):
            try:
                answer = await ports.edge.request("GET", f"{url}/healthz")
            except UnreachableError as error:
                return str(error)
            told = _health(answer)
            if told.get("space_id") == space.space_id:
                seen.add(str(told.get("zone")))
            if seen.issuperset(space.zones):
                return ""
        silent = [zone for zone in space.zones if zone not in seen]
        return f"zones not answering yet: {', '.join(silent)}"


async def found(engine: Engine, store: Store, backup_id: BackupId) -> Manifest:
    """The manifest of a backup that the catalogue knows, with all its objects in their sizes.

    Raises `DamagedError`, which names what is missing or changed.
    """
    try:
        manifest = await engine.find(store, backup_id)
    except NotFoundError as error:
        raise damaged(manifest_name(backup_id), "it is missing") from error
    await engine.look(store, manifest)
    return manifest


def backup_id(work: Work) -> BackupId:
    """The backup that the operation restores."""
    return BackupId(str(work.op.params["backup_id"]))


def _with(space: Space, work: Work, which: str, *, revision: int) -> Space:
    """The space on the new (`""`) or on the old (`"old_"`) data, under a revision of its own."""
    before = work.op.facts["revision"]
    if not isinstance(before, int):
        raise KeyError(f"fact revision of {work.op.op_id} is missing")
    return replace(
        space,
        database=work.fact(f"{which}database"),
        container=work.fact(f"{which}container"),
        config_revision=before + revision,
    )


def _health(answer: Answer) -> dict[str, object]:
    if answer.status != 200:
        return {}
    try:
        value: object = json.loads(answer.body)
    except ValueError:
        return {}
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}
