"""The door to whatever stores a space: what a backup run and a restore ask of it.

Two engines stand behind it: `backups.ranges`, the daily run's, which stores what changed, and
`backups.bundle`, a complete copy per backup and the portable export. Each method may be
repeated. Damage is always a `DamagedError` that names the object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

import msgspec

from backups.manifest import ObjectRef
from spaces.model import BackupId, SpaceId
from spaces.ports import Blobs, Server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from backups.manifest import DatabaseContents, Manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Where the backups of a space lie: a container of its own, and the vault of its region."""

    space_id: SpaceId
    blobs: Blobs
    container: str
    vault: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """A database of a space's server."""

    server: Server
    database: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """A container of a space's account."""

    blobs: Blobs
    container: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What is said of a backup before it is made."""

    space_id: SpaceId
    backup_id: BackupId
    operation_id: str
    cluster: str
    azure_region: str
    backup_region: str
    started_at: datetime
    keep_until: datetime | None = None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a run did, in numbers. `tables` are rows by name, left out where they are very many."""

    kind: str = "full"
    seconds: float = 0.0
    bytes_read: int = 0
    storage_calls: int = 0
    root_hash: str = ""
    tables: dict[str, int] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Captured:
    """A finished copy, which `publish` makes a backup."""

    contents: ObjectRef
    completed_at: datetime
    figures: Figures = field(default_factory=Figures)


class Engine(Protocol):
    """Makes, lists, restores and proves backups of one space at a time."""

    async def backup(
        self, store: Store, base: Base, files: Files, label: Label, settings: dict[str, object]
    ) -> Captured:
        """Store database, files and settings under names that nobody used before.

        Raises `TransientError`, `InvalidError`, `DamagedError` (the space's key), `WrongKeyError`.
        """
        ...

    async def publish(
        self, store: Store, label: Label, captured: Captured, *, expires_at: datetime
    ) -> Manifest:
        """Write the manifest, last of all and create-only: from here on the backup exists."""
        ...

    async def list(self, store: Store) -> list[Manifest]:
        """The manifests of a space, oldest first; raises for one that is damaged."""
        ...

    async def find(self, store: Store, backup_id: BackupId) -> Manifest:
        """The manifest of a backup. Raises `NotFoundError`, `DamagedError`."""
        ...

    async def look(self, store: Store, manifest: Manifest) -> None:
        """Return when every object of the backup is there in its size; reads none of them."""
        ...

    async def gaps(self, store: Store, manifest: Manifest, *, now: datetime) -> list[str]:
        """Names of manifests before this one that are missing or changed although not expired."""
        ...

    async def restore(self, store: Store, manifest: Manifest, base: Base, files: Files) -> None:
        """Fill an empty database, and a container that holds nothing but an earlier try of this."""
        ...

    async def prove(self, store: Store, manifest: Manifest, base: Base, files: Files) -> None:
        """Return when database and container hold exactly what the manifest says, else raise."""
        ...

    async def verify(self, store: Store, manifest: Manifest, scratch: Base) -> None:
        """Restore into an empty scratch database and prove it; re-read every attachment."""
        ...


class Data(Protocol):
    """Databases as the engine sees them: dumped, loaded, and told row for row."""

    async def dump(self, base: Base, sink: Callable[[bytes], None]) -> DatabaseContents:
        """Give the dump to `sink`; answers what one and the same snapshot holds."""
        ...

    async def load(self, base: Base, dump: AsyncIterator[bytes]) -> None:
        """Fill an empty database from a dump."""
        ...

    async def contents(self, base: Base) -> DatabaseContents:
        """What the database holds now, in one snapshot."""
        ...

    async def sessions(self, server: Server, role: str) -> dict[str, int]:
        """How many sessions of `role` each database has."""
        ...
