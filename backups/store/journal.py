"""What an attempt has stored so far, so that the next one after a crash does not store it again.

A journal is written whenever another two packs are safe. It names no tables and no paths:
only digests of plain bytes and where these lie. Journals belong to the number of the manifest
their run was to write; once that number is published, nobody reads them.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec

from backups.store import frames
from backups.store.packs import Known, PackList, PackRef, Piece
from backups.store.small import open_small, seal_small
from spaces.errors import DamagedError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

    from backups.store.keys import Keys
    from backups.store.objects import ObjectStore
    from backups.store.packs import Writer
    from backups.store.snapshots import Listing

EVERY_BYTES = 24 << 20  # every second full pack
_ROWS = 20_000


class Row(msgspec.Struct, frozen=True, array_like=True):
    """`length` plain bytes from `inner` of a frame; the whole frame where `length` is negative."""

    digest: bytes
    piece: Piece
    inner: int = 0
    length: int = -1


class _Page(msgspec.Struct, frozen=True, array_like=True):
    packs: list[PackRef]
    rows: list[Row]


class Journal:
    """Collects rows of one run, and writes those whose packs are safe."""

    def __init__(self, store: ObjectStore, keys: Keys, *, sequence: int, run: str) -> None:
        self.bytes_stored = 0
        self._store = store
        self._keys = keys
        self._prefix = f"j/{sequence:08d}-{run}/"
        self._lock = threading.Lock()
        self._rows: list[Row] = []
        self._safe: set[int] = set()
        self._since = 0
        self._written = 0
        self._writer: Writer | None = None

    def follow(self, writer: Writer) -> None:
        """Take the rows of this writer's frames, too."""
        self._writer = writer

    def note(self, digest: bytes, piece: Piece, inner: int, length: int) -> None:
        """Remember where content lies within a frame."""
        with self._lock:
            self._rows.append(Row(digest, piece, inner, length))

    def stored(self, pack: int, size: int) -> None:
        """A pack is safe; write what is due. Called from the writer's storing thread."""
        with self._lock:
            self._safe.add(pack)
            self._since += size
            is_due = self._since >= EVERY_BYTES
        if is_due:
            self.write()

    def write(self) -> None:
        """Write every row whose pack is safe."""
        writer = self._writer
        if writer is None:
            return
        frames_done = writer.take_written(lambda pack: pack in self._safe)
        with self._lock:
            rows = [row for row in self._rows if row.piece.pack in self._safe]
            self._rows = [row for row in self._rows if row.piece.pack not in self._safe]
            rows += [Row(one.digest, one.piece) for one in frames_done]
            self._since = 0
        for start in range(0, len(rows), _ROWS):
            self._write_page(writer.packs, rows[start : start + _ROWS])

    def _write_page(self, packs: PackList, rows: list[Row]) -> None:
        places: dict[int, int] = {}
        moved = [
            msgspec.structs.replace(
                row,
                piece=msgspec.structs.replace(
                    row.piece, pack=places.setdefault(row.piece.pack, len(places))
                ),
            )
            for row in rows
        ]
        page = _Page([packs[index] for index in places], moved)
        self._written += 1
        name = f"{self._prefix}{self._written:05d}"
        sealed = seal_small(self._keys, name, frames.compress(msgspec.json.encode(page)))
        self._store.create(name, sealed)
        self.bytes_stored += len(sealed)


def load(
    store: ObjectStore,
    keys: Keys,
    listing: Listing,
    *,
    sequence: int,
    packs: PackList,
    known: Known,
    add_chunk: Callable[[Row], None],
) -> int:
    """Fill `known`, and give rows of chunks to `add_chunk`, in indices of `packs`.

    A damaged journal, and rows of packs that are not there, are passed over: they cost storing
    again, nothing else. Returns how many rows there were.
    """
    count = 0
    for names in listing.journals.get(sequence, {}).values():
        for name in names:
            page = _read(store, keys, name)
            if page is None:
                continue
            indices = [
                packs.adopt(pack) if listing.sizes.get(pack.name) == pack.size else None
                for pack in page.packs
            ]
            for row in page.rows:
                index = indices[row.piece.pack]
                if index is None:
                    continue
                count += 1
                piece = msgspec.structs.replace(row.piece, pack=index)
                if row.length < 0:
                    known.pieces[row.digest] = piece
                else:
                    add_chunk(msgspec.structs.replace(row, piece=piece))
    return count


def _read(store: ObjectStore, keys: Keys, name: str) -> _Page | None:
    try:
        with store.open(name) as file:
            data = open_small(keys, name, file.read())
        page = msgspec.json.decode(frames.decode(frames.Coding.ZSTD, data), type=_Page)
    except (DamagedError, NotFoundError, ValueError):
        return None
    return page if all(row.piece.pack < len(page.packs) for row in page.rows) else None
