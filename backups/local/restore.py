"""Restore a snapshot: look first, refuse what is not empty, then database, files and settings.

Whatever a restore needs is compared as it is read. Damage elsewhere in the store does not stop it,
but is told, and the command's exit code says so.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from backups.files import restore as files
from backups.local.facts import SETTINGS
from backups.local.parts import affected_by, database_part, facts_of
from backups.store import snapshots
from backups.store.keys import Keys, damaged
from backups.store.manifest import Manifest, read_long
from backups.store.objects import ObjectStore
from backups.store.packs import Reader
from backups.store.snapshots import Listing
from spaces.errors import DamagedError, InvalidError

if TYPE_CHECKING:
    from backups.database.model import DatabasePart

LATEST = "latest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What to restore, from which snapshot, into which places. A place that is None is left out."""

    store: ObjectStore
    keys: Keys
    at: str = LATEST
    dsn: str | None = None
    pg_bin: Path | None = None
    jobs: int = 2
    files: Path | None = None
    settings: Path | None = None
    table: str | None = None
    path: str | None = None
    skip_damaged: bool = False
    dry_run: bool = False
    progress: Callable[[str], None] = lambda _said: None


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore prints. `damage` lists what is not as it was stored."""

    backup_id: str
    state: str
    seconds: float
    tables: dict[str, int]
    files: int
    bytes: int
    damage: list[dict[str, object]]


def bring_back(wish: Wish) -> Restored:
    """Restore; raises `RefusedError`, `DamagedError`, `WrongKeyError`, `NotFoundError`."""
    began = time.monotonic()
    listing = Listing.of(wish.store)
    key_damage = snapshots.check_key(wish.store, wish.keys, listing)
    if wish.at == LATEST:
        manifest = snapshots.open_latest(wish.store, wish.keys, listing)
    else:
        manifest = snapshots.open_by_id(wish.store, wish.keys, listing, wish.at)
    with manifest:
        elsewhere = [key_damage] if key_damage is not None else []
        elsewhere += snapshots.look_at_chain(wish.store, wish.keys, listing)[1]
        elsewhere += _lost(wish, manifest, listing)
        one = _Restore(wish, manifest)
        one.require_empty()
        if not wish.dry_run:
            one.run()
    damage = [*one.damage, *elsewhere]
    return Restored(
        backup_id=manifest.backup_id,
        state=_state(wish, one, damage),
        seconds=round(time.monotonic() - began, 3),
        tables=one.tables,
        files=one.files,
        bytes=one.size_bytes,
        damage=[error.members | {"message": str(error)} for error in damage],
    )


def _state(wish: Wish, one: _Restore, damage: list[DamagedError]) -> str:
    if wish.dry_run:
        return "dry-run"
    if one.damage:
        return "partial"
    return "complete, store damaged" if damage else "complete"


def _lost(wish: Wish, manifest: Manifest, listing: Listing) -> list[DamagedError]:
    """Packs that are gone. Those the restore needs stop it before anything is written."""
    found: list[DamagedError] = []
    for name in listing.lost(manifest):
        affected = affected_by(manifest, name)
        how = "it is missing" if name not in listing.sizes else "it has another size"
        error = damaged(name, how, snapshots=[manifest.backup_id], affects=affected)
        if affected and not wish.skip_damaged:
            raise error
        found.append(error)
    return found


class _Restore:
    """One restore of one snapshot."""

    def __init__(self, wish: Wish, manifest: Manifest) -> None:
        self.tables: dict[str, int] = {}
        self.files = 0
        self.size_bytes = 0
        self.damage: list[DamagedError] = []
        self._wish = wish
        self._manifest = manifest
        self._facts = facts_of(manifest)
        self._reader = Reader(
            wish.store, wish.keys, packs=manifest.packs, snapshot=manifest.backup_id
        )
        self._part: DatabasePart | None = None
        if wish.dsn is not None:
            self._part = database_part(manifest)
            if self._part is None or not self._part.is_complete:
                raise InvalidError(f"snapshot {manifest.backup_id} holds no whole database")
        if wish.files is not None and not self._facts.has_files:
            raise InvalidError(f"snapshot {manifest.backup_id} holds no files")
        if wish.settings is not None and not self._facts.has_settings:
            raise InvalidError(f"snapshot {manifest.backup_id} holds no settings")

    def require_empty(self) -> None:
        """Look at every target before the first byte is written."""
        if self._wish.files is not None:
            files.require_empty(self._wish.files)
        if self._wish.dsn is not None:
            from backups.database import restore as database  # noqa: PLC0415 — slow to import

            database.require_empty(self._wish.dsn)

    def run(self) -> None:
        """Restore what was asked for: files while the server is busy with rows and indexes."""
        wish = self._wish
        with ThreadPoolExecutor(1, thread_name_prefix="files") as beside:
            files_done = (
                beside.submit(self._restore_files, wish.files)
                if wish.files is not None
                else None
            )
            if self._part is not None and wish.dsn is not None:
                self._restore_database(self._part, wish.dsn)
            if files_done is not None:
                files_done.result()
        if wish.settings is not None:
            self._restore_settings(wish.settings)

    def _restore_database(self, part: DatabasePart, dsn: str) -> None:
        from backups.database import restore as database  # noqa: PLC0415 — slow to import

        wish = self._wish
        self.damage += database.restore(
            dsn,
            part,
            self._reader,
            key=wish.keys.digest_key,
            pg_bin=wish.pg_bin,
            jobs=wish.jobs,
            only_table=wish.table,
            skip_damaged=wish.skip_damaged,
            progress=wish.progress,
        )
        rows = part.rows()
        self.tables = {
            name: count for name, count in rows.items() if wish.table in {None, name}
        }

    def _restore_files(self, target: Path) -> None:
        progress = _Rate(self._wish.progress, self._facts.files)
        done = files.restore(
            self._manifest,
            self._reader,
            self._wish.keys,
            target,
            only=self._wish.path,
            skip_damaged=self._wish.skip_damaged,
            progress=progress.tell,
        )
        self.damage += done.damage
        self.files = done.files
        self.size_bytes += done.size_bytes

    def _restore_settings(self, target: Path) -> None:
        settings = read_long(self._manifest, SETTINGS)
        if settings is None:
            raise self._manifest.damaged("its settings are missing")
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(target.name + ".part")
        number = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(number, "wb") as file:
            file.write(settings)
        part.replace(target)
        self.size_bytes += len(settings)


class _Rate:
    """Says how far files are, how fast, and how long it will still take."""

    def __init__(self, say: Callable[[str], None], total: int) -> None:
        self._say = say
        self._total = total
        self._began = time.monotonic()
        self._told = 0

    def tell(self, done: int, size_bytes: int) -> None:
        """Tell at each five thousandth file."""
        if done < self._told + 5000:
            return
        self._told = done
        passed = max(time.monotonic() - self._began, 1e-6)
        left = passed * (self._total - done) / done
        self._say(
            f"{done} of {self._total} files, {size_bytes / passed / 2**20:.0f} MiB/s, "
            f"{left:.0f} s left"
        )
