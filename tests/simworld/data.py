"""The data of spaces in memory: rows of databases, and an engine that keeps backups of them.

The engine has the contract of `backups.engine.Engine` and no more: no dump, no cipher, no thread.
It keeps the contract of `backups.engine.Engine`; what a real backup holds is tested on real parts.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import msgspec

from backups.engine import Captured
from backups.keyring import KEY_NAME
from backups.manifest import MANIFESTS, PACKS, Manifest, ObjectRef, Previous, manifest_name
from backups.sealing import damaged
from spaces.errors import ConflictError, DamagedError, InvalidError, NotFoundError

if TYPE_CHECKING:
    import datetime as dt

    from backups.engine import Base, Files, Label, Store
    from spaces.model import BackupId
    from spaces.ports import Blobs, Clock, Ids, Server


@dataclass(slots=True)
class SimData:
    """Rows by server and database, and who works on them: what `backups.engine.Data` asks of it."""

    tables: dict[tuple[str, str], dict[str, list[str]]] = field(
        default_factory=dict[tuple[str, str], dict[str, list[str]]]
    )
    busy: dict[str, dict[str, int]] = field(default_factory=dict[str, dict[str, int]])

    def rows(self, address: str, database: str) -> dict[str, list[str]]:
        """The tables of a database and their rows."""
        return self.tables.setdefault((address, database), {})

    def forget(self, address: str, database: str) -> None:
        """The database is dropped."""
        self.tables.pop((address, database), None)

    async def sessions(self, server: Server, role: str) -> dict[str, int]:
        del role
        return dict(self.busy.get(server.address, {}))


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """All that one backup holds; `sealed_with` stands for the key that only erasure destroys."""

    backup_id: str
    tables: dict[str, list[str]]
    files: dict[str, str]
    settings: dict[str, object]
    sealed_with: str


class SimEngine:
    """See `backups.engine.Engine`. Objects lie in the store's container, as blobs."""

    def __init__(self, data: SimData, ids: Ids, clock: Clock) -> None:
        self._data, self._ids, self._clock = data, ids, clock

    async def backup(
        self, store: Store, base: Base, files: Files, label: Label, settings: dict[str, object]
    ) -> Captured:
        blobs = bare(store.blobs)
        await blobs.ensure_container(store.container)
        key = await self._key(store, may_make=True)
        kept = _Kept(
            backup_id=label.backup_id,
            tables=self._data.rows(base.server.address, base.database),
            files=await _read(files),
            settings=settings,
            sealed_with=key,
        )
        raw = msgspec.json.encode(kept)
        name = f"{PACKS}{self._ids.token(20)}-contents"
        await blobs.create(store.container, name, raw)
        ref = ObjectRef(name=name, size_bytes=len(raw), sha256=hashlib.sha256(raw).hexdigest())
        return Captured(contents=ref, completed_at=self._clock.now())

    async def publish(
        self, store: Store, label: Label, captured: Captured, *, expires_at: dt.datetime
    ) -> Manifest:
        kept = await self._contents(store, captured.contents)
        earlier = [one for one in await self.list(store) if one.backup_id < label.backup_id]
        manifest = Manifest(
            space_id=label.space_id,
            backup_id=label.backup_id,
            operation_id=label.operation_id,
            cluster=label.cluster,
            azure_region=label.azure_region,
            backup_region=label.backup_region,
            started_at=label.started_at,
            completed_at=captured.completed_at,
            expires_at=expires_at,
            server_version="18.6",
            contents=captured.contents,
            objects=[captured.contents],
            previous=_previous(earlier[-1]) if earlier else None,
            tables=len(kept.tables),
            rows=sum(map(len, kept.tables.values())),
            attachments=len(kept.files),
            attachment_bytes=sum(map(len, kept.files.values())),
        )
        raw, name = msgspec.json.encode(manifest), manifest_name(label.backup_id)
        try:
            await bare(store.blobs).create(store.container, name, raw)
        except ConflictError:
            there = await self._manifest(store, name)
            if there.contents != captured.contents:
                raise
            return there
        return manifest

    async def list(self, store: Store) -> list[Manifest]:
        names = [
            info.name
            async for info in bare(store.blobs).list(store.container, prefix=MANIFESTS)
        ]
        return [await self._manifest(store, name) for name in names]

    async def find(self, store: Store, backup_id: BackupId) -> Manifest:
        return await self._manifest(store, manifest_name(backup_id))

    async def look(self, store: Store, manifest: Manifest) -> None:
        for ref in manifest.objects:
            info = await bare(store.blobs).info(store.container, ref.name)
            if info is None or info.size != ref.size_bytes:
                raise damaged(ref.name, "it is missing or of another size")

    async def gaps(self, store: Store, manifest: Manifest, *, now: dt.datetime) -> list[str]:
        missing: list[str] = []
        before = manifest.previous
        while before is not None and before.expires_at > now:
            try:
                one = await self._manifest(store, manifest_name(before.backup_id))
            except (NotFoundError, DamagedError):
                return [*missing, manifest_name(before.backup_id)]
            before = one.previous
        return missing

    async def restore(self, store: Store, manifest: Manifest, base: Base, files: Files) -> None:
        kept = await self._contents(store, manifest.contents)
        self._load(kept, base)
        blobs = bare(files.blobs)
        await blobs.ensure_container(files.container)
        for name, text in sorted(kept.files.items()):
            await blobs.create(files.container, name, text.encode())

    async def prove(self, store: Store, manifest: Manifest, base: Base, files: Files) -> None:
        kept = await self._contents(store, manifest.contents)
        if self._data.rows(base.server.address, base.database) != kept.tables:
            raise DamagedError("the database is not what the manifest says")
        if await _read(files) != kept.files:
            raise DamagedError("the files are not what the manifest says")

    async def verify(self, store: Store, manifest: Manifest, scratch: Base) -> None:
        self._load(await self._contents(store, manifest.contents), scratch)

    def _load(self, kept: _Kept, base: Base) -> None:
        rows = self._data.rows(base.server.address, base.database)
        if rows:
            raise InvalidError("the database is not empty", slug="dump-refused")
        rows.update({name: list(lines) for name, lines in kept.tables.items()})

    async def _manifest(self, store: Store, name: str) -> Manifest:
        await self._key(store)
        raw = await bare(store.blobs).read(store.container, name)
        return msgspec.json.decode(raw, type=Manifest)

    async def _contents(self, store: Store, ref: ObjectRef) -> _Kept:
        key = await self._key(store)
        try:
            raw = await bare(store.blobs).read(store.container, ref.name)
        except NotFoundError as error:
            raise damaged(ref.name, "it is missing") from error
        if hashlib.sha256(raw).hexdigest() != ref.sha256:
            raise damaged(ref.name, "its sum does not fit")
        kept = msgspec.json.decode(raw, type=_Kept)
        if kept.sealed_with != key:
            raise damaged(ref.name, "the key does not open it")
        return kept

    async def _key(self, store: Store, *, may_make: bool = False) -> str:
        blobs = bare(store.blobs)
        try:
            return json.loads(await blobs.read(store.container, KEY_NAME))["key"]
        except NotFoundError as error:
            if not may_make or await _has_manifests(store):
                raise damaged(KEY_NAME, "the space's data key is missing") from error
        key = self._ids.secret()
        await blobs.create(store.container, KEY_NAME, json.dumps({"key": key}).encode())
        return key


def bare(blobs: Blobs) -> Blobs:
    """The account behind a door: what an engine does inside is its own."""
    return cast("Blobs", blobs.__dict__.get("_target", blobs))


async def _read(files: Files) -> dict[str, str]:
    blobs = bare(files.blobs)
    return {
        info.name: (await blobs.read(files.container, info.name)).decode()
        async for info in blobs.list(files.container)
    }


async def _has_manifests(store: Store) -> bool:
    async for _ in bare(store.blobs).list(store.container, prefix=MANIFESTS):
        return True
    return False


def _previous(manifest: Manifest) -> Previous:
    raw = msgspec.json.encode(manifest)
    return Previous(
        backup_id=manifest.backup_id,
        sha256=hashlib.sha256(raw).hexdigest(),
        expires_at=manifest.expires_at,
    )
