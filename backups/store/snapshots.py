"""The snapshots of a store: which there are, which is the newest, and what is missing of them.

Manifests form a chain by their numbers, each naming its predecessor. The newest has no successor
to miss it, so after publishing a run leaves a head under `j/`: a head with a higher number than
any manifest says that the newest was removed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from backups.store.keys import CHECK_NAME, damaged
from backups.store.manifest import (
    Header,
    Manifest,
    Reference,
    authenticate,
    name_of,
    open_manifest,
)
from backups.store.small import SMALL_OVERHEAD, open_small, seal_small
from spaces.errors import DamagedError, NotFoundError, WrongKeyError

if TYPE_CHECKING:
    from backups.store.keys import Keys
    from backups.store.objects import ObjectStore

HEAD = "head"
MANIFEST = re.compile(r"s/(\d{8})\Z")
_OWN_ID = re.compile(r"(\d{8})-")
_JOURNAL = re.compile(r"j/(\d{8})-([0-9a-f]+)/(\w+)\Z")


@dataclass(slots=True)
class Listing:
    """The store's objects by kind, from one listing."""

    sizes: dict[str, int] = field(default_factory=dict[str, int])
    sequences: list[int] = field(default_factory=list[int])
    heads: dict[int, str] = field(default_factory=dict[int, str])
    journals: dict[int, dict[str, list[str]]] = field(
        default_factory=dict[int, dict[str, list[str]]]
    )

    @classmethod
    def of(cls, store: ObjectStore) -> Listing:
        """Read the listing of a store."""
        listing = cls()
        for stat in store.list():
            listing.sizes[stat.name] = stat.size
            if match := MANIFEST.match(stat.name):
                listing.sequences.append(int(match[1]))
            elif match := _JOURNAL.match(stat.name):
                sequence, run, part = int(match[1]), match[2], match[3]
                if part == HEAD:
                    listing.heads[sequence] = stat.name
                else:
                    listing.journals.setdefault(sequence, {}).setdefault(run, []).append(
                        stat.name
                    )
        listing.sequences.sort()
        return listing

    @property
    def newest(self) -> int:
        """The highest number of a manifest, 0 where there is none."""
        return self.sequences[-1] if self.sequences else 0

    def lost(self, manifest: Manifest) -> list[str]:
        """Packs that a manifest refers to and that are missing or have another size."""
        return [
            pack.name
            for pack in manifest.packs.all()
            if pack is not None and self.sizes.get(pack.name) != pack.size
        ]


def check_key(store: ObjectStore, keys: Keys, listing: Listing) -> DamagedError | None:
    """Raise `WrongKeyError` for another space's key; give back what is wrong with `k/check`.

    A manifest that opens proves the key, whatever has become of the key-check value.
    """
    try:
        with store.open(CHECK_NAME) as file:
            if keys.opens(file.read()):
                return None
        found = damaged(CHECK_NAME, "it is of another key than the snapshots")
    except NotFoundError:
        if not listing.sequences and not listing.heads:
            return None
        found = damaged(CHECK_NAME, "it is missing")
        if not _opens_any(store, keys, listing):
            raise found from None
        return found
    except DamagedError as error:
        if listing.sequences and not _opens_any(store, keys, listing):
            raise
        return error
    if _opens_any(store, keys, listing):
        return found
    raise WrongKeyError(
        "the key does not open this store", remedy="Give the key file the store was made with."
    )


def newest_missing(store: ObjectStore, keys: Keys, listing: Listing) -> DamagedError | None:
    """The damage that the newest snapshots were removed, as their heads tell."""
    for sequence in sorted(listing.heads, reverse=True):
        if sequence <= listing.newest:
            return None
        head = read_head(store, keys, listing.heads[sequence])
        if head is not None and not is_over(head.keep_until):
            return damaged(
                head.name,
                "it is missing, and was the newest manifest",
                snapshots=[head.name],
                affects=["the whole snapshot"],
            )
    return None


@dataclass(frozen=True, slots=True)
class Seen:
    """A manifest whose every byte was authenticated."""

    name: str
    header: Header
    sha256: str


def look_at_chain(
    store: ObjectStore, keys: Keys, listing: Listing
) -> tuple[list[Seen], list[DamagedError]]:
    """Every manifest that is whole, oldest first, and what is wrong with the chain of them."""
    seen: dict[str, Seen] = {}
    found: list[DamagedError] = []
    missing = newest_missing(store, keys, listing)
    if missing is not None:
        found.append(missing)
    for sequence in listing.sequences:
        name = name_of(sequence)
        try:
            header, sha256 = authenticate(store, keys, name)
        except NotFoundError:
            continue  # expired since the listing; if it did not, its successor misses it
        except DamagedError as error:
            found.append(error)
        else:
            seen[name] = Seen(name, header, sha256)
    for one in seen.values():
        found += _missed_by(one, seen, listing)
    if (newest := seen.get(name_of(listing.newest))) is not None:
        replaced = _replaced(store, keys, listing, newest.sha256)
        found += [replaced] if replaced else []
    return list(seen.values()), found


def _replaced(
    store: ObjectStore, keys: Keys, listing: Listing, sha256: str
) -> DamagedError | None:
    """The newest manifest has no successor to know it by: its head does."""
    if listing.newest not in listing.heads:
        return None
    head = read_head(store, keys, listing.heads[listing.newest])
    if head is None or head.sha256 == sha256:
        return None
    return damaged(head.name, "it is not the manifest that its run published")


def _missed_by(one: Seen, seen: dict[str, Seen], listing: Listing) -> list[DamagedError]:
    found: list[DamagedError] = []
    for reference in (one.header.previous, one.header.base):
        if reference is None:
            continue
        there = seen.get(reference.name)
        if there is None and reference.name not in listing.sizes:
            if not is_over(reference.keep_until):
                found.append(
                    damaged(
                        reference.name,
                        "it is missing",
                        snapshots=[one.header.backup_id],
                        affects=["the chain of snapshots"],
                    )
                )
        elif there is not None and there.sha256 != reference.sha256:
            how = f"it is not the manifest that {one.name} refers to"
            found.append(damaged(reference.name, how, snapshots=[one.header.backup_id]))
    return found


def open_latest(store: ObjectStore, keys: Keys, listing: Listing) -> Manifest:
    """The newest complete snapshot. Damage of it, or of a newer one, is an error.

    Raises `NotFoundError`, `DamagedError`.
    """
    missing = newest_missing(store, keys, listing)
    if missing is not None:
        raise missing
    for sequence in reversed(listing.sequences):
        manifest = open_manifest(store, keys, name_of(sequence))
        if sequence == listing.newest:
            replaced = _replaced(store, keys, listing, manifest.sha256)
            if replaced is not None:
                manifest.close()
                raise replaced
        if manifest.header.state == "complete":
            return manifest
        manifest.close()
    raise NotFoundError("the store holds no complete snapshot")


def open_by_id(store: ObjectStore, keys: Keys, listing: Listing, backup_id: str) -> Manifest:
    """The snapshot of an id; of several, the newest: a step that was repeated made them.

    Raises `NotFoundError`, `DamagedError`.
    """
    match = _OWN_ID.match(backup_id)
    if match is None:
        return _open_given_id(store, keys, listing, backup_id)
    sequence = int(match[1])
    if sequence in listing.sequences:
        manifest = open_manifest(store, keys, name_of(sequence))
        if manifest.backup_id == backup_id:
            return manifest
        manifest.close()
    elif sequence in listing.heads:
        head = read_head(store, keys, listing.heads[sequence])
        if head is not None and not is_over(head.keep_until):
            raise damaged(head.name, "it is missing", snapshots=[backup_id])
    raise NotFoundError(f"the store holds no snapshot {backup_id}")


def _open_given_id(
    store: ObjectStore, keys: Keys, listing: Listing, backup_id: str
) -> Manifest:
    """An id that the caller of the run gave: only manifests know it."""
    for sequence in reversed(listing.sequences):
        manifest = open_manifest(store, keys, name_of(sequence))
        if manifest.backup_id == backup_id:
            return manifest
        manifest.close()
    missing = newest_missing(store, keys, listing)
    if missing is not None:
        raise missing
    raise NotFoundError(f"the store holds no snapshot {backup_id}")


def head_size(manifest: Reference) -> int:
    """How many bytes the head of a manifest takes."""
    return SMALL_OVERHEAD + len(msgspec.json.encode(manifest))


def expected_reference(sequence: int, *, keep_until: str) -> Reference:
    """A reference as long as the one of a manifest that is not written yet."""
    return Reference(name=name_of(sequence), sha256="0" * 64, keep_until=keep_until)


def write_head(
    store: ObjectStore, keys: Keys, *, sequence: int, run: str, manifest: Reference
) -> None:
    """Leave word that a manifest was published."""
    name = f"j/{sequence:08d}-{run}/{HEAD}"
    store.create(name, seal_small(keys, name, msgspec.json.encode(manifest)))


def read_head(store: ObjectStore, keys: Keys, name: str) -> Reference | None:
    """What a head says; None where it is damaged: no restore needs it."""
    try:
        with store.open(name) as file:
            return msgspec.json.decode(open_small(keys, name, file.read()), type=Reference)
    except (DamagedError, NotFoundError, msgspec.MsgspecError):
        return None


def is_over(keep_until: str) -> bool:
    """Whether an object may be missing by now."""
    return datetime.fromisoformat(keep_until) < datetime.now(UTC)


def _opens_any(store: ObjectStore, keys: Keys, listing: Listing) -> bool:
    for sequence in reversed(listing.sequences):
        try:
            open_manifest(store, keys, name_of(sequence)).close()
        except (DamagedError, NotFoundError):
            continue
        return True
    return False
