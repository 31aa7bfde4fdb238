"""Where content lies that the store already has: by digest, 50 bytes a chunk.

A dictionary of Python objects would take five times as much, and a space may have millions.
"""

from __future__ import annotations

import struct
import threading
from array import array

from backups.files.model import Chunk
from backups.store.packs import Piece

_RECORD = struct.Struct("<16sIIIIBII")
_FIRST_SLOTS = 1 << 12


class Index:
    """A hash table in two flat arrays; safe for several threads."""

    def __init__(self) -> None:
        self._records = bytearray()
        self._slots = array("I", bytes(4 * _FIRST_SLOTS))
        self._count = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._count

    def find(self, digest: bytes) -> Chunk | None:
        """The chunk with this digest."""
        with self._lock:
            number = self._slots[self._slot(self._slots, digest)]
            if not number:
                return None
            _, *piece, inner, length = _RECORD.unpack_from(
                self._records, (number - 1) * _RECORD.size
            )
            return Chunk(Piece(*piece), inner, length, digest)

    def add(self, digest: bytes, chunk: Chunk) -> None:
        """Remember a chunk; the first one of a digest stays."""
        with self._lock:
            slot = self._slot(self._slots, digest)
            if self._slots[slot]:
                return
            piece = chunk.piece
            self._records += _RECORD.pack(
                digest,
                piece.pack,
                piece.frame,
                piece.offset,
                piece.size,
                piece.coding,
                chunk.inner,
                chunk.length,
            )
            self._count += 1
            self._slots[slot] = self._count
            if self._count * 2 > len(self._slots):
                self._grow()

    def _slot(self, slots: array[int], digest: bytes) -> int:
        """The slot that holds the digest, or the free one where it belongs."""
        mask = len(slots) - 1
        slot = int.from_bytes(digest[:8], "little") & mask
        while number := slots[slot]:
            start = (number - 1) * _RECORD.size
            if self._records.startswith(digest, start):
                break
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        slots = array("I", bytes(8 * len(self._slots)))
        for number in range(1, self._count + 1):
            start = (number - 1) * _RECORD.size
            slots[self._slot(slots, bytes(self._records[start : start + 16]))] = number
        self._slots = slots
