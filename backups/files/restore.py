"""Put a snapshot's files back into an empty folder; every chunk and file is compared with its digest.

Names and folders are made in the order of the walk; contents are written by two threads; times of
folders come last, because filling a folder changes them.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from backups.files import model
from backups.files.chunks import Chunks
from backups.files.model import Entry, Kind
from backups.store.keys import damaged
from spaces.errors import DamagedError, NotFoundError, RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from backups.store.keys import Keys
    from backups.store.manifest import Manifest
    from backups.store.packs import Reader

_WORKERS = 2
_WAITING = 4
_BATCH_ENTRIES = 64
_BATCH_BYTES = 4 << 20


@dataclass(slots=True)
class Restored:
    """What was put back, and what could not be because it is damaged."""

    files: int = 0
    size_bytes: int = 0
    damage: list[DamagedError] = field(default_factory=list[DamagedError])


def require_empty(target: Path) -> None:
    """Raise `RefusedError` where a folder holds anything."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RefusedError(
            f"the target folder {target} is not empty",
            remedy="Name an empty folder or one that does not exist.",
        )


def restore(
    manifest: Manifest,
    reader: Reader,
    keys: Keys,
    target: Path,
    *,
    only: str | None = None,
    skip_damaged: bool = False,
    progress: Callable[[int, int], None] = lambda _files, _size: None,
) -> Restored:
    """Fill an empty folder. With `only`, a path and what lies below it.

    Raises `RefusedError`, `DamagedError` (unless damage is skipped: then it is listed),
    `NotFoundError` where nothing has the path `only`.
    """
    require_empty(target)
    target.mkdir(parents=True, exist_ok=True)
    filler = _Filler(reader, keys, target, skip_damaged=skip_damaged)
    seen = 0
    try:
        for entry in _chosen(manifest, only):
            seen += 1
            filler.add(entry)
            progress(filler.restored.files, filler.restored.size_bytes)
        filler.finish()
    finally:
        filler.close()
    if only is not None and not seen:
        raise NotFoundError(f"snapshot {manifest.backup_id} has no path {only}")
    return filler.restored


def _chosen(manifest: Manifest, only: str | None) -> Iterator[Entry]:
    """All entries, or a path and what lies below it; names of files outside become files."""
    if only is None:
        yield from model.entries_of(manifest)
        return
    wanted = os.fsencode(only).strip(b"/")
    for entry in model.entries_of(manifest):
        if not _is_within(entry.path, wanted):
            continue
        if entry.kind is Kind.SAME and not _is_within(entry.target, wanted):
            first = next(one for one in model.entries_of(manifest) if one.path == entry.target)
            yield msgspec.structs.replace(first, path=entry.path)
        else:
            yield entry


def _is_within(path: str, wanted: bytes) -> bool:
    """Compared as bytes: the text of a path depends on all of its names."""
    name = model.unquoted(path)
    return name == wanted or name.startswith(wanted + b"/")


class _Filler:
    """Makes names, and hands contents to its threads in batches."""

    def __init__(self, reader: Reader, keys: Keys, target: Path, *, skip_damaged: bool) -> None:
        self.restored = Restored()
        self._chunks = Chunks(reader, keys)
        self._root = os.fsencode(target)
        self._skip_damaged = skip_damaged
        self._owns = os.geteuid() == 0
        self._lock = threading.Lock()
        self._batch: list[Entry] = []
        self._batch_bytes = 0
        self._jobs: list[Future[None]] = []
        self._folders: list[Entry] = []
        self._links: list[Entry] = []
        self._parents: set[bytes] = set()
        self._workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="files")

    def add(self, entry: Entry) -> None:
        """Restore one entry, soon."""
        match entry.kind:
            case Kind.FOLDER:
                Path(os.fsdecode(self._path(entry.path))).mkdir(
                    mode=0o700, parents=True, exist_ok=True
                )
                self._folders.append(entry)
            case Kind.FILE:
                self._batch.append(entry)
                self._batch_bytes += entry.size
                if len(self._batch) >= _BATCH_ENTRIES or self._batch_bytes >= _BATCH_BYTES:
                    self._hand_over()
            case Kind.SAME:
                self._links.append(entry)
            case Kind.LINK:
                path = self._path(entry.path)
                os.symlink(model.unquoted(entry.target), path)  # noqa: PTH211 — bytes
                self._dress(path, entry)
            case Kind.PIPE:
                path = self._path(entry.path)
                os.mkfifo(path, 0o600)
                self._dress(path, entry)

    def finish(self) -> None:
        """Return when all contents are there, and names and times with them."""
        self._hand_over()
        jobs, self._jobs = self._jobs, []
        for job in jobs:
            job.result()
        for entry in self._links:
            self._link(entry)
        for entry in reversed(self._folders):
            self._dress(self._path(entry.path), entry)

    def close(self) -> None:
        """End the threads."""
        self._workers.shutdown(wait=True, cancel_futures=True)

    def _hand_over(self) -> None:
        if not self._batch:
            return
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        while len(self._jobs) >= _WAITING:
            self._jobs.pop(0).result()
        self._jobs.append(self._workers.submit(self._fill, batch))

    def _fill(self, batch: list[Entry]) -> None:
        for entry in batch:
            path = self._path(entry.path)
            try:
                self._write(path, entry)
            except DamagedError as error:
                # A file in part would pass for the file: better none.
                with suppress(FileNotFoundError):
                    os.unlink(path)  # noqa: PTH108 — bytes
                if not self._skip_damaged:
                    raise
                with self._lock:
                    self.restored.damage.append(error)
                continue
            with self._lock:
                self.restored.files += 1
                self.restored.size_bytes += entry.size

    def _write(self, path: bytes, entry: Entry) -> None:
        self._make_parent(path)
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            for data in self._chunks.content(entry):
                _write_all(number, data)
            if self._owns:
                os.fchown(number, entry.uid, entry.gid)
            os.fchmod(number, entry.mode)
            os.utime(number, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(number)

    def _link(self, entry: Entry) -> None:
        try:
            os.link(self._path(entry.target), self._path(entry.path))
        except FileNotFoundError:
            if not self.restored.damage:
                raise
            return  # its file is among the damaged ones, which are told
        self.restored.files += 1
        self.restored.size_bytes += entry.size

    def _make_parent(self, path: bytes) -> None:
        """The folders above; they exist but for a single path out of a snapshot."""
        parent = path.rpartition(b"/")[0]
        if parent not in self._parents:
            Path(os.fsdecode(parent)).mkdir(parents=True, exist_ok=True)
            self._parents.add(parent)

    def _path(self, quoted: str) -> bytes:
        """Where an entry goes: always below the root."""
        path = model.unquoted(quoted)
        if quoted == model.ROOT:
            return self._root
        if path.startswith(b"/") or b".." in path.split(b"/"):
            raise damaged("its manifest", f"the path {quoted} leads out of the folder")
        return self._root + b"/" + path

    def _dress(self, path: bytes, entry: Entry) -> None:
        """Owner, mode and times, of the name itself."""
        if self._owns:
            os.chown(path, entry.uid, entry.gid, follow_symlinks=False)
        if entry.kind is not Kind.LINK:
            os.chmod(path, entry.mode)  # noqa: PTH101 — bytes
        os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)


def _write_all(number: int, data: memoryview) -> None:
    while data:
        data = data[os.write(number, data) :]
