"""The complete-bundle engine: one dump, all files and the settings, sealed anew each time.

Objects of a backup lie under a run id that is drawn per attempt, so that a second attempt never
meets the first one's; what no manifest names is harmless and nobody reads it. The manifest is
written last and create-only. Whatever is compared, is compared with the sealed contents.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import msgspec

from backups import attachments, keyring, manifest
from backups.engine import Base, Captured, Files, Label, Store
from backups.manifest import Contents, Manifest, ObjectRef, Previous, manifest_name
from backups.objects import Objects, workplace
from backups.sealing import damaged
from spaces.errors import ConflictError, DamagedError, NotFoundError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import AsyncIterator, Sequence

    from backups.engine import Data
    from backups.manifest import DatabaseContents
    from spaces.model import BackupId
    from spaces.ports import Clock, Ids, Keys

RUN_CHARS = 20
CONTENTS = "contents"


class BundleEngine:
    """See `engine.Engine`."""

    def __init__(self, *, keys: Keys, data: Data, ids: Ids, clock: Clock) -> None:
        self._keys = keys
        self._data = data
        self._ids = ids
        self._clock = clock

    async def backup(
        self, store: Store, base: Base, files: Files, label: Label, settings: dict[str, object]
    ) -> Captured:
        """Store database, files and settings under names that nobody used before."""
        data_key = await keyring.ensured(self._keys, store)
        prefix = f"{manifest.PACKS}{self._ids.token(RUN_CHARS)}-"
        with workplace() as folder:
            objects = Objects(store, data_key, folder)
            draft = objects.begin(f"{prefix}database")
            database = await self._data.dump(base, draft.write)
            dump = await objects.store(draft)
            stored, packs = await attachments.packed(
                files, objects, lambda number: f"{prefix}files-{number:05}"
            )
            contents = Contents(
                space_id=label.space_id,
                backup_id=label.backup_id,
                dump=dump,
                packs=packs,
                database=database,
                attachments=stored,
                settings=settings,
            )
            draft = objects.begin(prefix + CONTENTS)
            draft.write(msgspec.json.encode(contents))
            ref = await objects.store(draft)
        return Captured(contents=ref, completed_at=self._clock.now())

    async def publish(
        self, store: Store, label: Label, captured: Captured, *, expires_at: dt.datetime
    ) -> Manifest:
        """Write the manifest; the same call gives the same bytes, so that it may be repeated."""
        data_key = await keyring.existing(self._keys, store)
        contents = await self._contents(store, captured.contents, label.backup_id, data_key)
        written = Manifest(
            space_id=label.space_id,
            backup_id=label.backup_id,
            operation_id=label.operation_id,
            cluster=label.cluster,
            azure_region=label.azure_region,
            backup_region=label.backup_region,
            started_at=label.started_at,
            completed_at=captured.completed_at,
            expires_at=expires_at,
            server_version=contents.database.server_version,
            contents=captured.contents,
            objects=[captured.contents, contents.dump, *contents.packs],
            previous=await self._previous(store, label.backup_id, data_key),
            tables=len(contents.database.tables),
            rows=sum(table.rows for table in contents.database.tables),
            attachments=len(contents.attachments),
            attachment_bytes=sum(each.size_bytes for each in contents.attachments),
        )
        name = manifest_name(label.backup_id)
        try:
            raw = manifest.encoded(written, data_key)
            await store.blobs.create(store.container, name, raw)
        except ConflictError:
            there = await self._read(store, name, data_key)
            if there.contents != captured.contents:
                raise
            return there
        return written

    async def list(self, store: Store) -> list[Manifest]:
        """The manifests of a space, oldest first."""
        found = [name async for name in _manifests(store)]
        if not found:
            return []
        data_key = await keyring.existing(self._keys, store)
        return [await self._read(store, name, data_key) for name in found]

    async def find(self, store: Store, backup_id: BackupId) -> Manifest:
        """The manifest of a backup."""
        name = manifest_name(backup_id)
        if await store.blobs.info(store.container, name) is None:
            raise NotFoundError(
                f"there is no backup {backup_id}",
                where=f"space {store.space_id}",
                remedy="See: kpax backup list.",
            )
        return await self._read(store, name, await keyring.existing(self._keys, store))

    async def look(self, store: Store, manifest: Manifest) -> None:
        """Return when every object of the backup is there in its size."""
        prefix = manifest.contents.name.removesuffix(CONTENTS)
        there = {
            info.name: info.size
            async for info in store.blobs.list(store.container, prefix=prefix)
        }
        for ref in manifest.objects:
            if ref.name not in there:
                raise damaged(ref.name, "it is missing")
            if there[ref.name] != ref.size_bytes:
                raise damaged(ref.name, f"{there[ref.name]} bytes, not {ref.size_bytes}")

    async def gaps(self, store: Store, manifest: Manifest, *, now: dt.datetime) -> list[str]:
        """Names of manifests before this one that are missing or changed although not expired."""
        data_key = await keyring.existing(self._keys, store)
        missing: list[str] = []
        following = manifest
        while (previous := following.previous) is not None:
            name = manifest_name(previous.backup_id)
            try:
                raw = await store.blobs.read(store.container, name)
                following = decoded_as(previous, raw, name, data_key)
            except (NotFoundError, DamagedError):
                if previous.expires_at > now:
                    missing.append(name)
                break
        return missing

    async def restore(self, store: Store, manifest: Manifest, base: Base, files: Files) -> None:
        """Fill an empty database and its container."""
        data_key = await keyring.existing(self._keys, store)
        contents = await self._of(store, manifest, data_key)
        with workplace() as folder:
            objects = Objects(store, data_key, folder)
            await self._load(objects, contents.dump, base)
            await attachments.unpacked(objects, contents.packs, contents.attachments, files)

    async def prove(self, store: Store, manifest: Manifest, base: Base, files: Files) -> None:
        """Return when database and container hold exactly what the manifest says."""
        data_key = await keyring.existing(self._keys, store)
        contents = await self._of(store, manifest, data_key)
        with workplace() as folder:
            wrong = differences(contents.database, await self._data.contents(base))
            wrong += await attachments.differences(files, contents.attachments, folder)
        _must_be_none(wrong, manifest, contents)

    async def verify(self, store: Store, manifest: Manifest, scratch: Base) -> None:
        """Restore into an empty scratch database and prove it; re-read every attachment."""
        data_key = await keyring.existing(self._keys, store)
        contents = await self._of(store, manifest, data_key)
        with workplace() as folder:
            objects = Objects(store, data_key, folder)
            await attachments.reread(objects, contents.packs, contents.attachments)
            await self._load(objects, contents.dump, scratch)
        wrong = differences(contents.database, await self._data.contents(scratch))
        _must_be_none(wrong, manifest, contents)

    async def _load(self, objects: Objects, dump: ObjectRef, base: Base) -> None:
        async with objects.fetched(dump) as frames:

            async def pieces() -> AsyncIterator[bytes]:
                for frame in frames:
                    yield frame

            await self._data.load(base, pieces())

    async def _of(self, store: Store, manifest: Manifest, data_key: bytes) -> Contents:
        """The contents of a published backup, which must name what the manifest names."""
        contents = await self._contents(store, manifest.contents, manifest.backup_id, data_key)
        if manifest.objects != [manifest.contents, contents.dump, *contents.packs]:
            raise damaged(manifest_name(manifest.backup_id), "it names other objects")
        return contents

    async def _contents(
        self, store: Store, ref: ObjectRef, backup_id: str, data_key: bytes
    ) -> Contents:
        with workplace() as folder:
            raw = await Objects(store, data_key, folder).read(ref)
        try:
            contents = msgspec.json.decode(raw, type=Contents)
        except msgspec.MsgspecError as error:
            raise damaged(ref.name, f"this release cannot read it ({error})") from error
        if (contents.space_id, contents.backup_id) != (store.space_id, backup_id):
            raise damaged(ref.name, "it tells of another backup")
        return contents

    async def _previous(self, store: Store, backup_id: str, data_key: bytes) -> Previous | None:
        """The newest manifest before this one that can be read; a damaged one is not built on."""
        mine = manifest_name(backup_id)
        earlier = [name async for name in _manifests(store) if name < mine]
        for name in reversed(earlier):
            raw = await store.blobs.read(store.container, name)
            try:
                before = manifest.decoded(raw, name=name, data_key=data_key)
            except DamagedError:
                continue
            return Previous(
                backup_id=before.backup_id,
                sha256=manifest.digest(raw),
                expires_at=before.expires_at,
            )
        return None

    async def _read(self, store: Store, name: str, data_key: bytes) -> Manifest:
        raw = await store.blobs.read(store.container, name)
        found = manifest.decoded(raw, name=name, data_key=data_key)
        if found.space_id != store.space_id:
            raise damaged(name, "it is another space's")
        return found


async def _manifests(store: Store) -> AsyncIterator[str]:
    async for info in store.blobs.list(store.container, prefix=f"{manifest.MANIFESTS}bkp-"):
        yield info.name


def decoded_as(previous: Previous, raw: bytes, name: str, data_key: bytes) -> Manifest:
    """The manifest that `previous` names; raises `DamagedError` where it is another."""
    if manifest.digest(raw) != previous.sha256:
        raise damaged(name, "it is not the one that the next manifest names")
    return manifest.decoded(raw, name=name, data_key=data_key)


def differences(said: DatabaseContents, found: DatabaseContents) -> list[str]:
    """What is not as the manifest says, in words without a value of the customer's. Pure."""
    wrong: list[str] = []
    there = {table.name: table for table in found.tables}
    for table in said.tables:
        other = there.pop(table.name, None)
        if other is None:
            wrong.append(f"table {table.name} is missing")
        elif other.columns != table.columns:
            wrong.append(f"table {table.name} has other columns")
        elif other != table:
            wrong.append(f"table {table.name} has other rows ({other.rows}, not {table.rows})")
    wrong += [f"table {name} is too much" for name in there]
    values = {sequence.name: sequence for sequence in found.sequences}
    for sequence in said.sequences:
        value = values.pop(sequence.name, None)
        if (
            value is None
            or not sequence.lowest <= value.lowest <= value.highest <= sequence.highest
            or not set(value.called) <= set(sequence.called)
        ):
            wrong.append(f"sequence {sequence.name} is not where it was")
    wrong += [f"sequence {name} is too much" for name in values]
    if said.encoding != found.encoding:
        wrong.append(f"the encoding is {found.encoding}, not {said.encoding}")
    wrong += [
        f"{found.census.get(kind, 0)} of kind {kind}, not {said.census.get(kind, 0)}"
        for kind in sorted({*said.census, *found.census})
        if said.census.get(kind, 0) != found.census.get(kind, 0)
    ]
    return wrong


def _must_be_none(wrong: Sequence[str], manifest: Manifest, contents: Contents) -> None:
    if wrong:
        told = "; ".join(itertools.islice(wrong, 5))
        raise damaged(
            contents.dump.name, f"restored, it is not what {manifest.backup_id} says: {told}"
        )
