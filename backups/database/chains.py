"""Frames of text: kept where they are known, as a delta where they changed, whole otherwise.

The hash of each frame's plain bytes decides and is checked on every read: a wrong base of a delta
decodes without an error.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from backups.database.model import CHAIN_LIMIT, Frame
from backups.store.keys import damaged, digest
from spaces.errors import DamagedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from backups.store.packs import Piece, Reader, Writer

FRAME_BYTES = 4 << 20
LARGEST_FRAME = 8 << 20
_CLASSES = 4  # days over which the whole frames of a first snapshot are renewed
_AGAINST = 2  # `frames.Coding.PREFIX`
_log = logging.getLogger("kpax.backups")


class Texts:
    """Reads frames, and checks them."""

    def __init__(self, reader: Reader, key: bytes) -> None:
        self._reader = reader
        self._key = key

    def plain(self, frame: Frame, *, affects: str) -> bytes:
        """A frame's bytes. Raises `DamagedError`, also where a delta's base was another."""
        data: bytes | None = None
        for piece in frame.chain:
            data = self._reader.get(piece, prefix=data, affects=affects)
        if data is None or len(data) != frame.size or digest(self._key, data) != frame.digest:
            raise damaged(
                f"pack {frame.chain[-1].pack}" if frame.chain else "frame without a piece",
                "a frame's bytes are not those of its digest",
                affects=[affects],
            )
        return data


class Keeper:
    """Stores frames; safe for several threads. Knows what an earlier snapshot stored."""

    def __init__(self, writer: Writer, texts: Texts | None, *, key: bytes) -> None:
        self._writer = writer
        self._texts = texts
        self._key = key
        self._lock = threading.Lock()
        self.bytes_read = 0

    def digest(self, plain: bytes) -> bytes:
        """What names these bytes."""
        return digest(self._key, plain)

    def keep(self, plain: bytes, index: int, earlier: Sequence[Frame], affects: str) -> Frame:
        """The frame of these bytes: the earlier one with the same digest, else a new one."""
        name = digest(self._key, plain)
        with self._lock:
            self.bytes_read += len(plain)
        for frame in earlier:
            if frame.digest == name:
                return frame
        base = earlier[index] if index < len(earlier) else None
        if base is not None and len(base.chain) < base.cap:
            prefix = self._base(base, affects)
            if prefix:
                piece = self._writer.put(plain, prefix=prefix, digest=name)
                if piece.coding == _AGAINST:
                    return Frame(len(plain), name, base.cap, [*base.chain, piece])
                return self._whole(plain, name, piece, is_first=False)
        piece = self._writer.put(plain, digest=name)
        return self._whole(plain, name, piece, is_first=base is None)

    def _whole(self, plain: bytes, name: bytes, piece: Piece, *, is_first: bool) -> Frame:
        # The digest is as good as a die: first chains end at different lengths, and with them all
        # later ones, of which each is as long as it may be.
        cap = CHAIN_LIMIT - name[0] % _CLASSES if is_first else CHAIN_LIMIT
        return Frame(len(plain), name, cap, [piece])

    def _base(self, base: Frame, affects: str) -> bytes | None:
        """The bytes of the earlier frame; None where it is damaged: then no delta is built on it."""
        if self._texts is None:
            return None
        try:
            return self._texts.plain(base, affects=affects)
        except DamagedError as error:
            _log.error(
                "backup.base_damaged",
                extra={"problem": str(error), "see": "docs/running.md#backup.base_damaged"},
            )
            return None


class Cutter:
    """Cuts a stream of text into frames and keeps each; takes the rows of a COPY."""

    def __init__(self, keeper: Keeper, earlier: Sequence[Frame], affects: str) -> None:
        self._keeper = keeper
        self._earlier = earlier
        self._affects = affects
        self._waiting: list[bytes] = []
        self._size = 0
        self.frames: list[Frame] = []

    def write(self, data: bytes) -> None:
        """Take some bytes."""
        if self._size + len(data) > LARGEST_FRAME:
            self.cut()
            for at in range(0, len(data) - FRAME_BYTES, FRAME_BYTES):
                self._keep(data[at : at + FRAME_BYTES])
            data = data[max(0, (len(data) - 1) // FRAME_BYTES) * FRAME_BYTES :]
        self._waiting.append(data)
        self._size += len(data)
        if self._size >= FRAME_BYTES:
            self.cut()

    def cut(self) -> None:
        """End the frame here: what follows begins a new one."""
        if self._size:
            plain = self._waiting[0] if len(self._waiting) == 1 else b"".join(self._waiting)
            self._waiting.clear()
            self._size = 0
            self._keep(plain)

    def end(self) -> list[Frame]:
        """All frames."""
        self.cut()
        return self.frames

    def _keep(self, plain: bytes) -> None:
        self.frames.append(
            self._keeper.keep(plain, len(self.frames), self._earlier, self._affects)
        )


def joined(texts: Texts, frames: Sequence[Frame], affects: str) -> Iterator[bytes]:
    """The bytes of all frames, one after the other."""
    for frame in frames:
        yield texts.plain(frame, affects=affects)
