"""Verify a store: structure and every reference, and with `full` every byte of every pack.

What is found names the object, the snapshots that need it, and what of them is affected. Memory
does not grow with the store: a pack is read in pieces of 1 MiB, and what lies in it is looked up
only when it is damaged.
"""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import BinaryIO

import msgspec

from backups.local.facts import stamp
from backups.local.parts import affected_by, facts_of, references
from backups.store import frames, snapshots
from backups.store.keys import DIGEST_BYTES, Keys, damaged
from backups.store.manifest import Manifest, open_manifest
from backups.store.objects import ObjectStore
from backups.store.packs import HEADER_BYTES, MAGIC, PackRef
from backups.store.small import open_small, seal_small
from backups.store.snapshots import Listing
from spaces.errors import DamagedError, KpaxError, NotFoundError

_CHUNK = 1 << 20
_WORKERS = 2
_WAITING = 4
_NAMED = 100


class Finding(msgspec.Struct, kw_only=True):
    """An object that is not as it was stored, who needs it, and what of theirs is affected."""

    object: str
    problem: str
    snapshots: list[str]
    affects: list[str]


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """What a verification prints."""

    state: str
    snapshots: int
    packs: int
    bytes_read: int
    storage_calls: int
    findings: list[Finding]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What to verify. `full` reads every pack; `rolling` of n reads today's n-th of them."""

    store: ObjectStore
    keys: Keys
    full: bool = False
    rolling: int | None = None
    progress: Callable[[str], None] = lambda _said: None
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


@dataclass(slots=True)
class _Findings:
    by_object: dict[str, Finding] = field(default_factory=dict[str, Finding])

    def add(self, error: DamagedError) -> None:
        """One finding per object, however many snapshots it is found through."""
        name = str(error.members["object"])
        there = self.by_object.setdefault(
            name,
            Finding(
                object=name, problem=str(error.members["problem"]), snapshots=[], affects=[]
            ),
        )
        there.snapshots += _new(error.members["snapshots"], there.snapshots)
        there.affects += _new(error.members["affects"], there.affects)


def verify(check: Check) -> Verified:
    """Look at the whole store. Raises `WrongKeyError`, `UnreachableError`; damage is returned."""
    listing = Listing.of(check.store)
    found = _Findings()
    packs: dict[str, PackRef] = {}
    key_damage = _key_damage(check, listing)
    if key_damage is not None:
        found.add(key_damage)
    seen, chain = snapshots.look_at_chain(check.store, check.keys, listing)
    for error in chain:
        found.add(error)
    for one in seen:
        with ExitStack() as opened:
            try:
                manifest = opened.enter_context(
                    open_manifest(check.store, check.keys, one.name)
                )
                _look(manifest, listing, found, packs)
            except DamagedError as error:
                found.add(error)
    bytes_read = 0
    if check.full or check.rolling:
        bytes_read = _read_packs(check, _due(check, packs, listing), found)
        _read_small(check, listing, found)
        _name_affected(check, seen, found)
    result = Verified(
        state="damaged" if found.by_object else "ok",
        snapshots=len(seen),
        packs=len(packs),
        bytes_read=bytes_read,
        storage_calls=check.store.calls.total(),
        findings=[_short(one) for one in found.by_object.values()],
    )
    if (check.full or check.rolling) and seen:
        _report(check, result)
    return result


def _key_damage(check: Check, listing: Listing) -> DamagedError | None:
    try:
        return snapshots.check_key(check.store, check.keys, listing)
    except DamagedError as error:
        return error


def _look(
    manifest: Manifest, listing: Listing, found: _Findings, packs: dict[str, PackRef]
) -> None:
    """Every reference of one snapshot: the pack is there, and the frame lies within it."""
    known = manifest.packs
    lost = set(listing.lost(manifest))
    for pack in known.all():
        if pack is not None:
            packs[pack.name] = pack
    affected: dict[str, list[str]] = {name: [] for name in lost}
    outside: dict[str, list[str]] = {}
    facts_of(manifest)
    for piece, whose in references(manifest, own_only=not lost):
        try:
            pack = known[piece.pack]
        except IndexError:
            raise manifest.damaged(f"{whose} lies in a pack it does not name") from None
        if pack.name in lost:
            affected[pack.name].append(whose)
        elif piece.offset < HEADER_BYTES or piece.offset + piece.size > pack.size:
            outside.setdefault(pack.name, []).append(whose)
    for name, whose in affected.items():
        how = "it has another size" if name in listing.sizes else "it is missing"
        found.add(damaged(name, how, snapshots=[manifest.backup_id], affects=whose))
    for name, whose in outside.items():
        how = "a frame ends outside of it"
        found.add(damaged(name, how, snapshots=[manifest.backup_id], affects=whose))


def _due(check: Check, packs: dict[str, PackRef], listing: Listing) -> list[PackRef]:
    """Packs to read: those whose size is wrong are found already."""
    there = [pack for pack in packs.values() if listing.sizes.get(pack.name) == pack.size]
    if check.full or not check.rolling:
        return there
    turn = check.now().date().toordinal() % check.rolling
    return [pack for pack in there if zlib.crc32(pack.name.encode()) % check.rolling == turn]


def _read_packs(check: Check, packs: list[PackRef], found: _Findings) -> int:
    read = 0
    waiting: list[Future[DamagedError | None]] = []
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="scrub") as workers:
        for number, pack in enumerate(packs, start=1):
            waiting.append(workers.submit(_read_pack, check, pack))
            read += pack.size
            if number % 100 == 0:
                check.progress(f"{number} of {len(packs)} packs read")
            while len(waiting) >= _WAITING:
                _settle(waiting, found)
        while waiting:
            _settle(waiting, found)
    return read


def _settle(waiting: list[Future[DamagedError | None]], found: _Findings) -> None:
    error = waiting.pop(0).result()
    if error is not None:
        found.add(error)


def _read_pack(check: Check, pack: PackRef) -> DamagedError | None:
    """Every byte, under the keyed digest that the authenticated manifest gives."""
    try:
        with check.store.open(pack.name) as file:
            begin = file.read(HEADER_BYTES)
            hasher = check.keys.hasher()
            hasher.update(begin)
            for chunk in _chunks(file):
                hasher.update(chunk)
    except NotFoundError:
        return damaged(pack.name, "it is missing")
    if not begin.startswith(MAGIC) or hasher.digest(DIGEST_BYTES) != pack.digest:
        return damaged(pack.name, "its bytes are not what was stored")
    return None


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK):
        yield chunk


def _read_small(check: Check, listing: Listing, found: _Findings) -> None:
    """Heads, journals and reports. No restore needs them, but they say what was."""
    for name in listing.sizes:
        if name.startswith(("j/", "v/")):
            try:
                with check.store.open(name) as file:
                    open_small(check.keys, name, file.read())
            except DamagedError as error:
                found.add(error)
            except NotFoundError:
                continue


def _name_affected(check: Check, seen: list[snapshots.Seen], found: _Findings) -> None:
    """Say for each damaged pack which snapshots need which of its frames."""
    bad = [
        one
        for name, one in found.by_object.items()
        if name.startswith("p/") and not one.affects
    ]
    if not bad:
        return
    broken = {one.object: _broken_frames(check, seen, one.object) for one in bad}
    for header in seen:
        try:
            with open_manifest(check.store, check.keys, header.name) as manifest:
                for one in bad:
                    affected = affected_by(manifest, one.object, broken[one.object])
                    if affected:
                        one.snapshots.append(manifest.backup_id)
                        one.affects += _new(affected, one.affects)
        except DamagedError as error:
            found.add(error)


def _broken_frames(check: Check, seen: list[snapshots.Seen], pack: str) -> set[int] | None:
    """Frames of a pack that do not open; None where its head is damaged: then all are."""
    broken: set[int] = set()
    tried: set[int] = set()
    with check.store.open(pack) as file:
        begin = file.read(HEADER_BYTES)
        if not begin.startswith(MAGIC):
            return None
        cipher = check.keys.cipher("pack", salt=begin[len(MAGIC) :], name=pack)
        for header in seen:
            with ExitStack() as opened:
                try:
                    manifest = opened.enter_context(
                        open_manifest(check.store, check.keys, header.name)
                    )
                except DamagedError:
                    continue
                packs = manifest.packs
                for piece, _ in references(manifest):
                    if piece.frame in tried or packs[piece.pack].name != pack:
                        continue
                    tried.add(piece.frame)
                    file.seek(piece.offset)
                    try:
                        frames.unseal(cipher, pack, piece.frame, file.read(piece.size))
                    except DamagedError:
                        broken.add(piece.frame)
    return broken


def _report(check: Check, result: Verified) -> None:
    """Leave what was found under `v/`; a store that takes no writes still could be read."""
    name = f"v/{check.now():%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
    try:
        check.store.create(name, seal_small(check.keys, name, msgspec.json.encode(result)))
    except KpaxError as error:
        check.progress(f"the report could not be stored: {error}")
    else:
        check.progress(f"report {name} of {stamp(check.now())}")


def _new(names: object, there: list[str]) -> list[str]:
    known = set(there)
    return [
        name for name in dict.fromkeys(msgspec.convert(names, list[str])) if name not in known
    ]


def _short(finding: Finding) -> Finding:
    """A table and ten thousand files need not all be named."""
    if len(finding.affects) <= _NAMED:
        return finding
    more = len(finding.affects) - _NAMED
    return msgspec.structs.replace(
        finding, affects=[*finding.affects[:_NAMED], f"and {more} more"]
    )
