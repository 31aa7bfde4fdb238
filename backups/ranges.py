"""The block-range engine behind the door `engine.Engine`: what a space's daily run uses.

A run writes its manifest itself, last of all, so `publish` only finds it again; a step that is
repeated makes another snapshot under the same id, and the newest of them counts. Backups that the
bundle engine made stay readable: whatever is not found here is asked of it.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from backups import attached, keyring, proof
from backups.attached import Attachments
from backups.bridge import BlobStore, Bridge
from backups.database import restore as database
from backups.database.capture import Source
from backups.engine import Captured, Figures
from backups.files import model as files_model
from backups.local.parts import database_part, facts_of
from backups.local.run import Order, back_up
from backups.manifest import Manifest, ObjectRef, Previous
from backups.objects import workplace
from backups.sealing import damaged
from backups.store import snapshots
from backups.store.keys import Keys
from backups.store.manifest import Manifest as Snapshot
from backups.store.manifest import Reference, authenticate, name_of, open_manifest
from backups.store.packs import Reader
from backups.store.snapshots import Listing
from spaces.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from backups.bundle import BundleEngine
    from backups.engine import Base, Files, Label, Store
    from backups.local.facts import Result
    from spaces import ports
    from spaces.model import BackupId

_MANIFESTS = "s/"
_TABLES_BYTES = 8 << 10  # a row of the registry takes 32 Ki characters in a field


@dataclass(frozen=True, slots=True)
class _Work:
    """One call's bridge, store, keys and private folder."""

    bridge: Bridge
    store: BlobStore
    keys: Keys
    folder: Path

    def reader(self, snapshot: Snapshot) -> Reader:
        return Reader(self.store, self.keys, packs=snapshot.packs, snapshot=snapshot.backup_id)

    def attachments(self, files: Files) -> Attachments:
        return Attachments(self.bridge, files, self.folder)


class Told(Manifest, frozen=True, kw_only=True):
    """A snapshot in the words of the catalogue; `stored` is what its run added to the store."""

    stored: int

    @property
    def bytes_stored(self) -> int:
        """What the run stored: most of what a snapshot refers to was there before."""
        return self.stored


class RangesEngine:
    """See `engine.Engine`. `programs` is the folder of pg_dump; None: as it is found."""

    def __init__(
        self, *, keys: ports.Keys, bundles: BundleEngine, programs: Path | None
    ) -> None:
        self._keys = keys
        self._bundles = bundles
        self._programs = programs

    async def backup(
        self, store: Store, base: Base, files: Files, label: Label, settings: dict[str, object]
    ) -> Captured:
        """Capture what changed, and write the manifest."""
        await keyring.ensured(self._keys, store)
        async with self._work(store) as work:
            order = Order(
                store=work.store,
                keys=work.keys,
                database=Source(dsn=dsn_of(base), pg_bin=self._programs),
                files=work.attachments(files),
                settings=json.dumps(settings, ensure_ascii=False).encode(),
                space=label.space_id,
                backup_id=label.backup_id,
                keep_until=label.keep_until,
                about={
                    "operation_id": label.operation_id,
                    "cluster": label.cluster,
                    "azure_region": label.azure_region,
                    "backup_region": label.backup_region,
                },
            )
            made = await asyncio.to_thread(back_up, order)
            if made.state != "complete":
                raise damaged(made.backup_id, f"not all was captured: {made.problems}")
            told = await asyncio.to_thread(_find, work, label.backup_id)
        return Captured(
            contents=told.contents, completed_at=told.completed_at, figures=_figures(made)
        )

    async def publish(
        self, store: Store, label: Label, captured: Captured, *, expires_at: datetime
    ) -> Manifest:
        """The manifest that the run has written."""
        async with self._work(store) as work:
            told = await asyncio.to_thread(_find, work, label.backup_id)
        if told.contents != captured.contents:
            raise damaged(told.contents.name, "it is not the manifest that the run wrote")
        return told

    async def list(self, store: Store) -> list[Manifest]:
        """The manifests of a space, oldest first."""
        bundles = await self._bundles.list(store)
        if not await self._has_snapshots(store):
            return bundles
        async with self._work(store) as work:
            return [*bundles, *await asyncio.to_thread(_all, work)]

    async def find(self, store: Store, backup_id: BackupId) -> Manifest:
        """The manifest of a backup."""
        if await self._has_snapshots(store):
            async with self._work(store) as work:
                try:
                    return await asyncio.to_thread(_find, work, backup_id)
                except NotFoundError:
                    pass
        return await self._bundles.find(store, backup_id)

    async def look(self, store: Store, manifest: Manifest) -> None:
        """Return when every object of the backup is there in its size; reads none of them."""
        if not _is_ours(manifest):
            await self._bundles.look(store, manifest)
            return
        async with self._work(store) as work:
            await asyncio.to_thread(_look, work, manifest)

    async def gaps(self, store: Store, manifest: Manifest, *, now: datetime) -> list[str]:
        """Names of manifests that are missing or changed although not expired."""
        if not _is_ours(manifest):
            return await self._bundles.gaps(store, manifest, now=now)
        async with self._work(store) as work:
            return await asyncio.to_thread(_gaps, work)

    async def restore(self, store: Store, manifest: Manifest, base: Base, files: Files) -> None:
        """Fill an empty database, and a container that holds nothing but an earlier try of this."""
        if not _is_ours(manifest):
            await self._bundles.restore(store, manifest, base, files)
            return
        async with self._work(store) as work:

            def fill(snapshot: Snapshot) -> None:
                self._load(work, snapshot, base)
                work.attachments(files).put_back(snapshot, work.reader(snapshot), work.keys)

            await asyncio.to_thread(_with_snapshot, work, manifest, fill)

    async def prove(self, store: Store, manifest: Manifest, base: Base, files: Files) -> None:
        """Return when database and container hold exactly what the snapshot says, else raise."""
        if not _is_ours(manifest):
            await self._bundles.prove(store, manifest, base, files)
            return
        async with self._work(store) as work:

            def compare(snapshot: Snapshot) -> None:
                wrong = self._wrong_rows(work, snapshot, base)
                wrong += work.attachments(files).differences(snapshot, work.keys)
                _must_be_none(wrong, manifest)

            await asyncio.to_thread(_with_snapshot, work, manifest, compare)

    async def verify(self, store: Store, manifest: Manifest, scratch: Base) -> None:
        """Restore into an empty scratch database and prove it; re-read every attachment."""
        if not _is_ours(manifest):
            await self._bundles.verify(store, manifest, scratch)
            return
        async with self._work(store) as work:

            def check(snapshot: Snapshot) -> None:
                attached.reread(snapshot, work.reader(snapshot), work.keys)
                self._load(work, snapshot, scratch)
                _must_be_none(self._wrong_rows(work, snapshot, scratch), manifest)

            await asyncio.to_thread(_with_snapshot, work, manifest, check)

    def _load(self, work: _Work, snapshot: Snapshot, base: Base) -> None:
        part = database_part(snapshot)
        if part is None:
            raise snapshot.damaged("it holds no database")
        database.restore(
            dsn_of(base),
            part,
            work.reader(snapshot),
            key=work.keys.digest_key,
            pg_bin=self._programs,
        )

    def _wrong_rows(self, work: _Work, snapshot: Snapshot, base: Base) -> list[str]:
        part = database_part(snapshot)
        if part is None:
            return ["the snapshot holds no database"]
        stored = proof.Stored(part, work.reader(snapshot), work.keys)
        return proof.differences(dsn_of(base), stored, self._programs)

    @asynccontextmanager
    async def _work(self, store: Store) -> AsyncGenerator[_Work]:
        """A thread that outlives its call ends at its next call of a port."""
        bridge = Bridge()
        keys = Keys(await keyring.existing(self._keys, store))
        with workplace() as folder:
            try:
                yield _Work(
                    bridge,
                    BlobStore(bridge, store.blobs, store.container, folder),
                    keys,
                    folder,
                )
            finally:
                bridge.close()

    async def _has_snapshots(self, store: Store) -> bool:
        found = store.blobs.list(store.container, prefix=f"{_MANIFESTS}0")
        return any([snapshots.MANIFEST.match(info.name) async for info in found])


def dsn_of(base: Base) -> str:
    """The URL of a database, as libpq takes it."""
    server = base.server
    user, password = quote(server.user, safe=""), quote(server.password, safe="")
    return f"postgresql://{user}:{password}@{server.address}/{quote(base.database, safe='')}"


def _figures(made: Result) -> Figures:
    tables = made.tables if len(msgspec.json.encode(made.tables)) <= _TABLES_BYTES else {}
    return Figures(
        kind=made.kind,
        seconds=made.seconds,
        bytes_read=made.bytes_read,
        storage_calls=made.storage_calls,
        root_hash=made.root_hash,
        tables=tables,
    )


def _is_ours(manifest: Manifest) -> bool:
    return manifest.contents.name.startswith(_MANIFESTS)


def _all(work: _Work) -> list[Told]:
    listing = Listing.of(work.store)
    seen, damage = snapshots.look_at_chain(work.store, work.keys, listing)
    for error in damage:
        raise error
    newest = {one.header.backup_id: one.name for one in seen}
    return [_told(work, name, listing) for name in newest.values()]


def _find(work: _Work, backup_id: str) -> Told:
    """The newest snapshot of that id; one that cannot be read may have been it, and is damage."""
    listing = Listing.of(work.store)
    for sequence in reversed(listing.sequences):
        header, _ = authenticate(work.store, work.keys, name_of(sequence))
        if header.backup_id == backup_id:
            return _told(work, name_of(sequence), listing)
    missing = snapshots.newest_missing(work.store, work.keys, listing)
    if missing is not None:
        raise missing
    raise NotFoundError(f"there is no snapshot {backup_id}")


def _told(work: _Work, name: str, listing: Listing) -> Told:
    """A snapshot as catalogue and steps see a backup: its manifest is the contents."""
    with open_manifest(work.store, work.keys, name) as snapshot:
        header, facts = snapshot.header, facts_of(snapshot)
        summary = files_model.summary_of(snapshot)
        contents = ObjectRef(name=name, size_bytes=listing.sizes[name], sha256=snapshot.sha256)
        objects = [contents, *_packs_of(snapshot)]
        if snapshot.base is not None:
            base = snapshot.base
            size = listing.sizes.get(base.name, 0)
            objects.append(ObjectRef(name=base.name, size_bytes=size, sha256=base.sha256))
        about = facts.about
        return Told(
            space_id=header.space,
            backup_id=header.backup_id,
            operation_id=about.get("operation_id", ""),
            cluster=about.get("cluster", ""),
            azure_region=about.get("azure_region", ""),
            backup_region=about.get("backup_region", ""),
            started_at=datetime.fromisoformat(header.started_at),
            completed_at=datetime.fromisoformat(header.completed_at),
            expires_at=datetime.fromisoformat(header.expires_at),
            server_version=about.get("server_version", ""),
            contents=contents,
            objects=objects,
            previous=_previous(header.previous),
            tables=len(facts.tables),
            rows=sum(facts.tables.values()),
            attachments=summary.files,
            attachment_bytes=summary.size_bytes,
            stored=header.bytes_stored,
        )


def _packs_of(snapshot: Snapshot) -> list[ObjectRef]:
    return [
        ObjectRef(name=pack.name, size_bytes=pack.size, sha256=pack.digest.hex())
        for pack in snapshot.packs.all()
        if pack is not None
    ]


def _previous(reference: Reference | None) -> Previous | None:
    if reference is None:
        return None
    return Previous(
        backup_id=reference.name.removeprefix(_MANIFESTS),
        sha256=reference.sha256,
        expires_at=datetime.fromisoformat(reference.keep_until),
    )


def _look(work: _Work, manifest: Manifest) -> None:
    sizes = Listing.of(work.store).sizes
    for ref in manifest.objects:
        if ref.name not in sizes:
            raise damaged(ref.name, "it is missing")
        if sizes[ref.name] != ref.size_bytes:
            raise damaged(ref.name, f"{sizes[ref.name]} bytes, not {ref.size_bytes}")


def _gaps(work: _Work) -> list[str]:
    listing = Listing.of(work.store)
    _, damage = snapshots.look_at_chain(work.store, work.keys, listing)
    return sorted({str(error.members["object"]) for error in damage})


def _with_snapshot(work: _Work, manifest: Manifest, act: Callable[[Snapshot], None]) -> None:
    """Open the very manifest that was found, and act on it."""
    ref = manifest.contents
    try:
        opened = open_manifest(work.store, work.keys, ref.name, expected_sha256=ref.sha256)
    except NotFoundError as error:
        raise damaged(ref.name, "it is missing") from error
    with opened as snapshot:
        act(snapshot)


def _must_be_none(wrong: list[str], manifest: Manifest) -> None:
    if wrong:
        told = "; ".join(wrong[:5])
        raise damaged(
            manifest.contents.name,
            f"restored, it is not what {manifest.backup_id} says: {told}",
        )
