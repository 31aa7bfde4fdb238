"""What a store tells a run that begins: its number, what to build on, what may be used again."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from backups.files.index import Index
from backups.files.model import Chunk
from backups.store import journal, snapshots
from backups.store.keys import CHECK_NAME
from backups.store.manifest import Manifest, Reference, name_of, open_manifest
from backups.store.packs import Known, PackList
from backups.store.snapshots import Listing
from spaces.errors import DamagedError, WrongKeyError

if TYPE_CHECKING:
    from backups.store.journal import Row
    from backups.store.keys import Keys
    from backups.store.objects import ObjectStore

BASE_AGE = timedelta(days=7)


@dataclass(slots=True, kw_only=True)
class Earlier:
    """Found at the beginning of a run; `close` it at the end.

    `manifests` are those to build on, the newest first: more than one where the newest is partial.
    `claimed` are the bytes of the key-check value, where this run wrote it.
    `base` is what the new manifest is a difference of, None where it stands by itself.
    """

    sequence: int
    manifests: list[Manifest]
    base: Manifest | None
    packs: PackList
    previous: Reference | None
    previous_started_at: datetime | None
    known: Known = field(default_factory=Known)
    chunks: Index = field(default_factory=Index)
    warnings: list[str] = field(default_factory=list[str])
    resumed: int = 0
    claimed: int = 0
    opened: ExitStack = field(default_factory=ExitStack)

    def close(self) -> None:
        """Close the manifests."""
        self.opened.close()


def find_earlier(store: ObjectStore, keys: Keys, *, now: datetime) -> Earlier:
    """Look at the store once. The first run of a store makes it, with its key-check value.

    Raises `WrongKeyError`. Damage is a warning here: a run then builds on nothing.
    """
    listing = Listing.of(store)
    claimed = 0 if listing.sequences else _claim(store, keys)
    sequence = max([listing.newest, *listing.heads]) + 1
    opened = ExitStack()
    try:
        earlier = _look(store, keys, listing, opened, sequence=sequence, now=now)
    except BaseException:
        opened.close()
        raise
    earlier.claimed = claimed
    earlier.resumed = journal.load(
        store,
        keys,
        listing,
        sequence=sequence,
        packs=earlier.packs,
        known=earlier.known,
        add_chunk=lambda row: _add(earlier.chunks, row),
    )
    return earlier


def _claim(store: ObjectStore, keys: Keys) -> int:
    """Write the key-check value where there is none; the bytes stored."""
    value = keys.check_value()
    if store.create(CHECK_NAME, value):
        return len(value)
    with store.open(CHECK_NAME) as file:
        if not keys.opens(file.read()):
            raise WrongKeyError(
                "the key does not open this store",
                remedy="Give the key file the store was made with, or another store.",
            )
    return 0


def _look(
    store: ObjectStore,
    keys: Keys,
    listing: Listing,
    opened: ExitStack,
    *,
    sequence: int,
    now: datetime,
) -> Earlier:
    readable, warnings = _readable(store, keys, listing, opened)
    newest = readable[0] if readable else None
    is_newest = newest is not None and newest.header.sequence == sequence - 1
    if newest is not None and not is_newest and listing.newest != sequence - 1:
        warnings.append(f"manifest {name_of(sequence - 1)} is missing")
    lost = [name for manifest in readable for name in listing.lost(manifest)]
    warnings += [f"{name} is missing or has another size" for name in sorted(set(lost))]
    previous = newest.reference() if newest else None
    started_at = datetime.fromisoformat(newest.header.started_at) if newest else None
    if newest is None or not is_newest or lost:
        return Earlier(
            sequence=sequence,
            manifests=[],
            base=None,
            packs=PackList(),
            previous=previous,
            previous_started_at=started_at,
            warnings=warnings,
            opened=opened,
        )
    base = newest.base or newest
    is_old = now - datetime.fromisoformat(base.header.started_at) >= BASE_AGE
    return Earlier(
        sequence=sequence,
        manifests=readable,
        base=None if is_old else base,
        packs=PackList(newest.packs.all(), fill_holes=is_old),
        previous=previous,
        previous_started_at=started_at,
        warnings=warnings,
        opened=opened,
    )


def _readable(
    store: ObjectStore, keys: Keys, listing: Listing, opened: ExitStack
) -> tuple[list[Manifest], list[str]]:
    """The newest manifest that can be read; a partial one with the complete one it built on."""
    readable: list[Manifest] = []
    warnings: list[str] = []
    for sequence in reversed(listing.sequences):
        try:
            manifest = open_manifest(store, keys, name_of(sequence))
        except DamagedError as error:
            if not warnings and not readable:
                snapshots.check_key(store, keys, listing)
            warnings.append(str(error))
            if readable:
                break
            continue
        opened.callback(manifest.close)
        readable.append(manifest)
        if manifest.header.state == "complete" or manifest.base is None:
            break
    return readable, warnings


def _add(index: Index, row: Row) -> None:
    index.add(row.digest, Chunk(row.piece, row.inner, row.length, b""))
