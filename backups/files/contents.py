"""The bytes of files, read once and stored as chunks, by two threads.

Small files are packed solid into frames of 1 MiB; up to 4 MiB a file is cut evenly, above that
where its content says, so that an insertion moves no other chunk. What the store has already, by
keyed digest, is not stored again.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
from pyfastcdc import FastCDC

from backups.files.model import Chunk, Entry, shown
from backups.store.keys import DIGEST_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backups.files.index import Index
    from backups.files.source import Opened, Source
    from backups.store.keys import Keys
    from backups.store.packs import Writer

FRAME = 1 << 20
SMALL = FRAME // 2
EVEN_LIMIT = 4 << 20
_BUFFER = 4 << 20
_LONGEST = 2 << 20
_SHORTEST = 1 << 18
_WORKERS = 2
_WAITING = 6
_TRIES = 3


@dataclass(slots=True)
class Pending:
    """An entry whose content is being stored; `entry` is None if the file is no longer there."""

    path: bytes
    entry: Entry | None
    is_done: bool = False


@dataclass(slots=True)
class Tally:
    """What was read, and what could not be."""

    bytes_read: int = 0
    problems: list[str] = field(default_factory=list[str])
    vanished: list[str] = field(default_factory=list[str])


class Contents:
    """Stores contents of a source's files; `settle` waits, `close` ends."""

    def __init__(
        self,
        source: Source,
        writer: Writer,
        keys: Keys,
        *,
        known: Callable[[], Index],
        note: Callable[[bytes, Chunk], None],
    ) -> None:
        self.tally = Tally()
        self._source = source
        self._writer = writer
        self._keys = keys
        self._known = known
        self._note = note
        self._lock = threading.Lock()
        self._batch: list[Pending] = []
        self._batch_bytes = 0
        self._jobs: list[Future[None]] = []
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="files")
        self._cutter = FastCDC(
            avg_size=FRAME, min_size=_SHORTEST, max_size=_LONGEST, normalized_chunking=1
        )

    def submit(self, pending: Pending) -> None:
        """Read and store one file, soon."""
        entry = pending.entry
        size = entry.size if entry is not None else 0
        if size > SMALL:
            self._start(self._store_large, [pending])
            return
        if self._batch and self._batch_bytes + size > FRAME:
            self.flush()
        self._batch.append(pending)
        self._batch_bytes += size

    def flush(self) -> None:
        """Start on the small files that wait for more of them."""
        if self._batch:
            batch, self._batch, self._batch_bytes = self._batch, [], 0
            self._start(self._store_small, batch)

    def settle(self) -> None:
        """Return when everything submitted is stored."""
        self.flush()
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            job.result()

    def close(self) -> None:
        """End the threads."""
        self._workers.shutdown(wait=True, cancel_futures=True)

    def _start(self, work: Callable[[list[Pending]], None], batch: list[Pending]) -> None:
        while len(self._jobs) >= _WAITING:
            self._jobs.pop(0).result()
        self._jobs.append(self._workers.submit(work, batch))

    def _store_small(self, batch: list[Pending]) -> None:
        """Files of one frame: what is new of them goes into it, one behind the other."""
        frame = bytearray()
        new: list[tuple[Pending, Entry, int]] = []
        within: dict[bytes, tuple[Pending, Entry, int]] = {}
        copies: list[tuple[Pending, Entry, int]] = []
        for pending in batch:
            read = self._read_whole(pending)
            if read is None:
                continue
            entry, data = read
            if (found := self._known_chunk(entry, data)) is not None:
                pending.entry = _with(entry, found)
            elif entry.digest in within:
                copies.append((pending, entry, within[entry.digest][2]))
            else:
                if new and len(frame) + len(data) > FRAME:
                    self._put_frame(bytes(frame), new + copies)
                    frame, new, within, copies = bytearray(), [], {}, []
                new.append((pending, entry, len(frame)))
                within[entry.digest] = new[-1]
                frame += data
        if new:
            self._put_frame(bytes(frame), new + copies)
        for pending in batch:
            pending.is_done = True

    def _known_chunk(self, entry: Entry, data: bytes) -> tuple[Chunk, ...] | None:
        if not data:
            return ()
        found = self._known().find(entry.digest)
        if found is None or found.length != entry.size:
            return None
        return (msgspec.structs.replace(found, digest=b""),)

    def _put_frame(self, frame: bytes, members: list[tuple[Pending, Entry, int]]) -> None:
        piece = self._writer.put(frame)
        for pending, entry, inner in members:
            pending.entry = _with(entry, (Chunk(piece, inner, entry.size, b""),))
            self._remember(entry.digest, Chunk(piece, inner, entry.size, b""))

    def _store_large(self, batch: list[Pending]) -> None:
        for pending in batch:
            for attempt in range(1, _TRIES + 1):
                is_last = attempt == _TRIES
                if self._guarded(
                    pending, lambda of=pending, last=is_last: self._cut(of, last=last)
                ):
                    break
            pending.is_done = True

    def _cut(self, pending: Pending, *, last: bool) -> bool:
        """Read a file chunk by chunk; false if it changed meanwhile and may be read again."""
        assert pending.entry is not None  # noqa: S101 — a large file came with its size
        hasher = self._keys.hasher()
        chunks: list[Chunk] = []
        size = 0
        with self._source.open(pending.path) as reading:
            for data in self._pieces(reading):
                hasher.update(data)
                size += len(data)
                digest = self._keys.digest(data)
                chunks.append(self._store_chunk(digest, data))
            stayed, entry = reading.seen(pending.entry, size)
        self._count(size)
        if not stayed and not last:
            return False
        if len(chunks) == 1:
            chunks = [msgspec.structs.replace(chunks[0], digest=b"")]
        entry = msgspec.structs.replace(entry, digest=hasher.digest(DIGEST_BYTES))
        pending.entry = _with(entry, tuple(chunks))
        return True

    def _store_chunk(self, digest: bytes, data: bytes) -> Chunk:
        found = self._known().find(digest)
        if found is not None and found.length == len(data):
            return found
        chunk = Chunk(self._writer.put(data), 0, len(data), digest)
        self._remember(digest, chunk)
        return chunk

    def _pieces(self, reading: Opened) -> Iterator[bytes]:
        if reading.size <= EVEN_LIMIT:
            while data := reading.read(FRAME):
                yield data
            return
        rest = b""
        while data := reading.read(_BUFFER):
            rest += data
            used = 0
            for chunk in self._cutter.cut_buf(rest):
                # The last cut of a buffer may be its end only: it waits for what follows.
                if used + chunk.length == len(rest):
                    break
                yield rest[used : used + chunk.length]
                used += chunk.length
            rest = rest[used:]
        while rest:
            length = next(iter(self._cutter.cut_buf(rest))).length
            yield rest[:length]
            rest = rest[length:]

    def _read_whole(self, pending: Pending) -> tuple[Entry, bytes] | None:
        """A small file's content and what is known of it, or None where there is none to store."""
        result: list[tuple[Entry, bytes]] = []
        for attempt in range(1, _TRIES + 1):
            is_last = attempt == _TRIES

            def once(*, last: bool = is_last) -> bool:
                assert pending.entry is not None  # noqa: S101 — nothing else sets it before
                with self._source.open(pending.path) as reading:
                    data = reading.read_all()
                    stayed, entry = reading.seen(pending.entry, len(data))
                if stayed or last:
                    entry = msgspec.structs.replace(entry, digest=self._keys.digest(data))
                    result.append((entry, data))
                return stayed or last

            if self._guarded(pending, once):
                break
        if not result:
            return None
        entry, data = result[0]
        self._count(len(data))
        if len(data) > FRAME:  # it grew since the walk
            self._store_large([pending])
            return None
        return entry, data

    def _guarded(self, pending: Pending, work: Callable[[], bool]) -> bool:
        """True when the file needs no other try: it was read, or cannot be and that is recorded."""
        try:
            return work()
        except FileNotFoundError:
            pending.entry = None
            with self._lock:
                if self._source.has_folder_of(pending.path):
                    self.tally.vanished.append(shown(pending.path))
                else:
                    self.tally.problems.append(f"{shown(pending.path)}: its folder vanished")
        except OSError as error:
            pending.entry = None
            with self._lock:
                self.tally.problems.append(f"{shown(pending.path)}: {error.strerror}")
        return True

    def _remember(self, digest: bytes, chunk: Chunk) -> None:
        self._known().add(digest, chunk)
        self._note(digest, chunk)

    def _count(self, size: int) -> None:
        with self._lock:
            self.tally.bytes_read += size


def _with(entry: Entry, chunks: tuple[Chunk, ...]) -> Entry:
    return msgspec.structs.replace(entry, chunks=chunks)
