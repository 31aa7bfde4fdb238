"""A file's content out of the store, chunk by chunk, each compared with its digest."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

from backups.store.keys import DIGEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from backups.files.model import Chunk, Entry
    from backups.store.keys import Keys
    from backups.store.packs import Piece, Reader

_FRAMES = 4


class Chunks:
    """Reads contents; safe for several threads. The newest frames stay: small files share them."""

    def __init__(self, reader: Reader, keys: Keys) -> None:
        self._reader = reader
        self._keys = keys
        self._lock = threading.Lock()
        self._frames: OrderedDict[Piece, bytes] = OrderedDict()

    def content(self, entry: Entry) -> Iterator[memoryview]:
        """The content in pieces. Raises `DamagedError`, also after the last piece."""
        hasher = self._keys.hasher() if len(entry.chunks) != 1 else None
        for chunk in entry.chunks:
            data = self._chunk(entry, chunk)
            if hasher is not None:
                hasher.update(data)
            yield data
        if hasher is not None and hasher.digest(DIGEST_BYTES) != entry.digest:
            raise self._reader.damaged(
                entry.chunks[0].piece if entry.chunks else None,
                "its chunks do not make the file",
                entry.path,
            )

    def _chunk(self, entry: Entry, chunk: Chunk) -> memoryview:
        frame = self._frame(entry, chunk.piece)
        data = memoryview(frame)[chunk.inner : chunk.inner + chunk.length]
        if self._keys.digest(data) != (chunk.digest or entry.digest):
            raise self._reader.damaged(
                chunk.piece, "a frame holds other bytes than its manifest says", entry.path
            )
        return data

    def _frame(self, entry: Entry, piece: Piece) -> bytes:
        with self._lock:
            frame = self._frames.get(piece)
            if frame is not None:
                self._frames.move_to_end(piece)
                return frame
        frame = self._reader.get(piece, affects=f"file {entry.path}")
        with self._lock:
            self._frames[piece] = frame
            if len(self._frames) > _FRAMES:
                self._frames.popitem(last=False)
        return frame
