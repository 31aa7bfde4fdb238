"""Packs: sealed frames in create-only objects of at most 16 MiB, and where each frame lies.

A pack is magic, salt, and frames one after the other; which frame holds what, only manifests know.
The writer compresses and seals in the threads of its callers, spools to disk, and stores finished
packs from one thread of its own: its memory is bounded by the number of callers.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from backups.store import frames
from backups.store.keys import DIGEST_BYTES, SALT_BYTES, damaged
from backups.store.objects import Spool
from spaces.errors import DamagedError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from backups.store.keys import Keys
    from backups.store.objects import ObjectStore

MAGIC = b"KPAXPAK2"
HEADER_BYTES = len(MAGIC) + SALT_BYTES
PACK_LIMIT = 16 << 20
_WAITING_LIMIT = 2  # finished packs that are not stored yet: they cost disk, not memory
_OPEN_PACKS = 256


class Piece(msgspec.Struct, frozen=True, array_like=True):
    """One frame of a pack. `pack` is an index into the manifest's list of packs.

    `coding` is a `frames.Coding`: 0 stored, 1 zstd, 2 zstd against a prefix.
    """

    pack: int
    frame: int
    offset: int
    size: int
    coding: int


class PackRef(msgspec.Struct, frozen=True, array_like=True):
    """A pack as manifests name it: its size, and the keyed digest of all its bytes."""

    name: str
    size: int
    digest: bytes


class PackList:
    """The packs a manifest refers to, by index. Indices keep their meaning from run to run.

    A place that is None was released: nothing refers to it. Only a manifest that states its whole
    list (`fill_holes`) may give such a place to a new pack.
    """

    def __init__(
        self, packs: Sequence[PackRef | None] = (), *, fill_holes: bool = False
    ) -> None:
        self._packs: list[PackRef | None] = list(packs)
        self._free = [
            index for index, pack in enumerate(self._packs) if pack is None and fill_holes
        ]
        self._by_name = {pack.name: index for index, pack in enumerate(self._packs) if pack}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._packs)

    def __getitem__(self, index: int) -> PackRef:
        pack = self._packs[index] if 0 <= index < len(self._packs) else None
        if pack is None:
            raise IndexError(index)
        return pack

    def all(self) -> list[PackRef | None]:
        """The list as a manifest holds it."""
        return list(self._packs)

    def reserve(self) -> int:
        """An index for a pack that is still being written."""
        with self._lock:
            if self._free:
                return self._free.pop()
            self._packs.append(None)
            return len(self._packs) - 1

    def fill(self, index: int, pack: PackRef) -> None:
        """Say what stands at a reserved index."""
        with self._lock:
            self._packs[index] = pack
            self._by_name[pack.name] = index

    def adopt(self, pack: PackRef) -> int:
        """The index of a pack of another list, which is appended where it is new."""
        with self._lock:
            known = self._by_name.get(pack.name)
        if known is not None:
            return known
        index = self.reserve()
        self.fill(index, pack)
        return index

    def release(self, used: set[int]) -> None:
        """Forget packs that nothing refers to any more."""
        with self._lock:
            for index, pack in enumerate(self._packs):
                if pack is not None and index not in used:
                    self._packs[index] = None
                    del self._by_name[pack.name]


@dataclass(slots=True)
class _Open:
    """A pack that takes frames."""

    index: int
    name: str
    spool: Spool
    cipher: AESGCM
    size: int = HEADER_BYTES
    frames: int = 0
    unwritten: int = 0
    is_closed: bool = False


@dataclass(slots=True)
class _Counts:
    stored: int = 0
    packs: int = 0


@dataclass(frozen=True, slots=True)
class Written:
    """What a frame was stored as, by the digest its caller gave: what a journal remembers."""

    digest: bytes
    piece: Piece


@dataclass(slots=True)
class Known:
    """Frames that an earlier, unfinished attempt stored: by digest, in this run's pack indices."""

    pieces: dict[bytes, Piece] = field(default_factory=dict[bytes, Piece])


class Writer:
    """Stores frames of one run; safe for several threads. `finish` comes before the manifest.

    `on_stored(pack index, bytes)` is called, from the storing thread, when a pack is safe.
    """

    def __init__(
        self,
        store: ObjectStore,
        keys: Keys,
        *,
        run: str,
        packs: PackList,
        known: Known | None = None,
        on_stored: Callable[[int, int], None] | None = None,
    ) -> None:
        self._store = store
        self._keys = keys
        self._run = run
        self.packs = packs
        self._known = known or Known()
        self._on_stored = on_stored
        self._lock = threading.Lock()
        self._open: _Open | None = None
        self._counts = _Counts()
        self._written: list[Written] = []
        self._waiting: list[Future[None]] = []
        self._uploader = ThreadPoolExecutor(1, thread_name_prefix="pack")

    @property
    def bytes_stored(self) -> int:
        """Bytes of packs so far."""
        return self._counts.stored

    def put(
        self, plain: bytes, *, prefix: bytes | None = None, digest: bytes | None = None
    ) -> Piece:
        """Store at most 8 MiB as one frame, now or a little later.

        A prefix is used only where it halves the size: look at the answer's `coding`. With the
        digest of `plain`, what an unfinished attempt stored already is not stored again.
        """
        remembered = None
        if digest is not None:
            remembered = digest + self._keys.digest(prefix) if prefix is not None else digest
            known = self._known.pieces.get(remembered) or self._known.pieces.get(digest)
            if known is not None:
                return known
        coding, data = frames.encode(plain, prefix=prefix)
        pack, piece = self._place(len(data) + frames.TAG_BYTES, coding)
        sealed = frames.seal(pack.cipher, pack.name, piece.frame, data)
        pack.spool.write_at(piece.offset, sealed)
        with self._lock:
            if remembered is not None and digest is not None:
                key = remembered if coding == frames.Coding.PREFIX else digest
                self._written.append(Written(key, piece))
            pack.unwritten -= 1
            if pack.is_closed and not pack.unwritten:
                self._hand_over(pack)
        return piece

    def adopt(self, pack: PackRef) -> int:
        """The index, in this run's manifest, of a pack that another manifest or journal names."""
        return self.packs.adopt(pack)

    def take_written(self, stored: Callable[[int], bool]) -> list[Written]:
        """Frames with digests whose packs satisfy `stored`, once each: for the journal."""
        with self._lock:
            ready = [one for one in self._written if stored(one.piece.pack)]
            self._written = [one for one in self._written if not stored(one.piece.pack)]
        return ready

    def finish(self) -> None:
        """Return when every frame is stored; call it when no thread is in `put`."""
        with self._lock:
            if self._open is not None:
                self._close(self._open)
            waiting = self._waiting
            self._waiting = []
        for one in waiting:
            one.result()

    def close(self) -> None:
        """End the storing thread; what was not stored is forgotten."""
        self._uploader.shutdown(wait=True, cancel_futures=True)
        if self._open is not None:
            self._open.spool.close()
            self._open = None

    def _place(self, size: int, coding: int) -> tuple[_Open, Piece]:
        """A frame's place, reserved: its bytes are written without the lock."""
        with self._lock:
            while True:
                if self._open is not None and self._open.size + size > PACK_LIMIT:
                    self._close(self._open)
                if self._open is not None:
                    break
                self._settle()
                if self._open is None:
                    self._begin()
            pack = self._open
            piece = Piece(pack.index, pack.frames, pack.size, size, coding)
            pack.frames += 1
            pack.size += size
            pack.unwritten += 1
            return pack, piece

    def _begin(self) -> None:
        self._counts.packs += 1
        name = f"p/{self._run}-{self._counts.packs:05d}"
        salt = os.urandom(SALT_BYTES)
        spool = self._store.spool()
        spool.write_at(0, MAGIC + salt)
        self._open = _Open(
            index=self.packs.reserve(),
            name=name,
            spool=spool,
            cipher=self._keys.cipher("pack", salt=salt, name=name),
        )

    def _close(self, pack: _Open) -> None:
        pack.is_closed = True
        self._open = None
        if not pack.unwritten:
            self._hand_over(pack)

    def _hand_over(self, pack: _Open) -> None:
        self._waiting.append(self._uploader.submit(self._upload, pack))

    def _settle(self) -> None:
        """Wait until few packs wait, and raise what storing them raised."""
        while len(self._waiting) > _WAITING_LIMIT:
            first = self._waiting.pop(0)
            self._lock.release()
            try:
                first.result()
            finally:
                self._lock.acquire()

    def _upload(self, pack: _Open) -> None:
        hasher = self._keys.hasher()
        for data in pack.spool.read():
            hasher.update(data)
        # The name was drawn by this run: whoever else used it is no run of ours.
        if not self._store.create(pack.name, pack.spool):
            raise damaged(pack.name, "another object stands under the name drawn for it")
        pack.spool.close()
        self.packs.fill(pack.index, PackRef(pack.name, pack.size, hasher.digest(DIGEST_BYTES)))
        self._counts.stored += pack.size
        if self._on_stored is not None:
            self._on_stored(pack.index, pack.size)


class Reader:
    """Reads frames of one manifest's packs; safe for several threads."""

    def __init__(
        self, store: ObjectStore, keys: Keys, *, packs: PackList, snapshot: str = ""
    ) -> None:
        self._store = store
        self._keys = keys
        self._packs = packs
        self._snapshot = snapshot
        self._lock = threading.Lock()
        self._ciphers: OrderedDict[str, AESGCM] = OrderedDict()

    def get(self, piece: Piece, *, prefix: bytes | None = None, affects: str = "") -> bytes:
        """The plain bytes of a frame. Raises `DamagedError`, which names object and snapshot.

        `affects` says whose bytes they are: a table, a path. The caller compares their digest:
        a wrong prefix yields other bytes without an error.
        """
        try:
            pack = self._packs[piece.pack]
            cipher = self._cipher(pack.name)
            sealed = self._store.read(pack.name, piece.offset, piece.size)
            data = frames.unseal(cipher, pack.name, piece.frame, sealed)
            return frames.decode(piece.coding, data, prefix=prefix)
        except NotFoundError:
            how = "it is missing"
        except ValueError as error:
            how = f"frame {piece.frame}: {error}"
        except DamagedError as error:
            how = str(error.members["problem"])
        except IndexError:
            how = "its manifest does not name it"
        raise self.damaged(piece, how, affects)

    def damaged(self, piece: Piece | None, how: str, affects: str = "") -> DamagedError:
        """The error of a frame, or of the manifest, whose bytes are not what the manifest says."""
        try:
            name = self._packs[piece.pack].name if piece else f"manifest of {self._snapshot}"
        except IndexError:
            name = f"manifest of {self._snapshot}"
        return damaged(
            name,
            how,
            snapshots=[self._snapshot] if self._snapshot else [],
            affects=[affects] if affects else [],
        )

    def _cipher(self, name: str) -> AESGCM:
        with self._lock:
            cipher = self._ciphers.get(name)
            if cipher is not None:
                self._ciphers.move_to_end(name)
                return cipher
        header = self._store.read(name, 0, HEADER_BYTES)
        if len(header) != HEADER_BYTES or not header.startswith(MAGIC):
            raise damaged(name, "it does not begin as a pack")
        cipher = self._keys.cipher("pack", salt=header[len(MAGIC) :], name=name)
        with self._lock:
            self._ciphers[name] = cipher
            if len(self._ciphers) > _OPEN_PACKS:
                self._ciphers.popitem(last=False)
        return cipher
