"""A folder, walked in one order that never depends on the file system."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import msgspec

from backups.files.model import Entry, Kind, quoted, shown

if TYPE_CHECKING:
    from collections.abc import Iterator


_CHUNK = 1 << 20
_TICK_NS = 50_000_000  # kernels stamp files by a clock that ticks every few milliseconds
_COARSE_NS = 2_000_000_000  # whole seconds come from file systems that know no finer ones


@dataclass(slots=True)
class Walk:
    """The entries below a root, folders before what they hold. What cannot be read is named."""

    root: Path
    problems: list[str] = field(default_factory=list[str])
    skipped: list[str] = field(default_factory=list[str])
    _root_was: os.stat_result | None = None
    _first_names: dict[tuple[int, int], str] = field(default_factory=dict[tuple[int, int], str])

    def entries(self) -> Iterator[tuple[bytes, Entry]]:
        """Path (bytes, below the root) and entry, without contents, in the order of `model.order`.

        The root itself comes first, with the path `.`.
        """
        root = os.fsencode(self.root)
        try:
            there = self.root.stat()
            if not stat.S_ISDIR(there.st_mode):
                self.problems.append(f"{self.root}: it is not a folder")
                return
        except OSError as error:
            self.problems.append(f"{self.root}: {error.strerror}")
            return
        self._root_was = there
        yield b".", _entry(b".", Kind.FOLDER, there)
        yield from self._below(root, b"")

    def open(self, path: bytes) -> _Reading:
        """A file below the root."""
        return _Reading(os.fsencode(self.root) + b"/" + path)

    def has_folder_of(self, path: bytes) -> bool:
        """Whether the folder of a file is there."""
        return os.path.isdir(os.path.dirname(os.fsencode(self.root) + b"/" + path))  # noqa: PTH112, PTH120 — bytes

    def see_that_it_stayed(self) -> None:
        """Look at the root again: an unmounted share leaves an empty folder, not an empty space."""
        if self._root_was is None:
            return
        try:
            if os.path.samestat(self._root_was, self.root.stat()):
                return
            self.problems.append(f"{self.root}: another folder took its place meanwhile")
        except OSError as error:
            self.problems.append(f"{self.root}: {error.strerror}")

    def _below(self, folder: bytes, prefix: bytes) -> Iterator[tuple[bytes, Entry]]:
        try:
            with os.scandir(folder) as found:
                names = sorted(entry.name for entry in found)
        except OSError as error:
            self.problems.append(f"{shown(folder)}: {error.strerror}")
            return
        for name in names:
            path = prefix + name
            whole = folder + b"/" + name
            try:
                status = os.lstat(whole)
                entry = self._named(path, whole, status)
            except FileNotFoundError:
                continue  # removed since the folder was listed: it is no longer part of it
            except OSError as error:
                self.problems.append(f"{shown(whole)}: {error.strerror}")
                continue
            if entry is None:
                continue
            yield path, entry
            if entry.kind is Kind.FOLDER:
                yield from self._below(whole, path + b"/")

    def _named(self, path: bytes, whole: bytes, status: os.stat_result) -> Entry | None:
        mode = status.st_mode
        if stat.S_ISREG(mode):
            if status.st_nlink > 1:
                identity = (status.st_dev, status.st_ino)
                first = self._first_names.setdefault(identity, quoted(path))
                if first != quoted(path):
                    return _entry(path, Kind.SAME, status, target=first)
            return _entry(path, Kind.FILE, status)
        if stat.S_ISDIR(mode):
            return _entry(path, Kind.FOLDER, status)
        if stat.S_ISLNK(mode):
            return _entry(path, Kind.LINK, status, target=quoted(os.readlink(whole)))  # noqa: PTH115 — bytes
        if stat.S_ISFIFO(mode):
            return _entry(path, Kind.PIPE, status)
        self.skipped.append(shown(whole))  # a socket or device holds no data of its own
        return None


def _entry(path: bytes, kind: Kind, status: os.stat_result, target: str = "") -> Entry:
    return Entry(
        quoted(path),
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_mtime_ns,
        status.st_ctime_ns if kind is Kind.FILE else 0,
        status.st_size if kind is Kind.FILE else 0,
        target,
        b"",
        (),
    )


class _Reading:
    """A file that is open, and whether it stayed what it was."""

    def __init__(self, path: bytes) -> None:
        self._path = path

    def __enter__(self) -> Self:
        # A pipe put in the file's place must not hold the run up.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._number = os.open(self._path, flags)
        self._before = os.fstat(self._number)
        self.size = self._before.st_size
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._number)

    def read(self, size: int) -> bytes:
        """`size` bytes, fewer at the end only."""
        data = os.read(self._number, size)
        while data and len(data) < size and (more := os.read(self._number, size - len(data))):
            data += more
        return data

    def read_all(self) -> bytes:
        """All of it: one read where the size stayed."""
        data = os.read(self._number, self.size + 1)
        if len(data) == self.size:
            return data
        while more := os.read(self._number, _CHUNK):
            data += more
        return data

    def seen(self, entry: Entry, size: int) -> tuple[bool, Entry]:
        """Whether the file stayed as it was while it was read, and its entry as read."""
        before, after = self._before, os.fstat(self._number)
        stayed = size == after.st_size and (
            (before.st_mtime_ns, before.st_ctime_ns, before.st_size)
            == (after.st_mtime_ns, after.st_ctime_ns, after.st_size)
        )
        margin = _TICK_NS if before.st_ctime_ns % 1_000_000_000 else _COARSE_NS
        is_settled = stayed and time.time_ns() - before.st_ctime_ns > margin
        return stayed, msgspec.structs.replace(
            entry,
            size=size,
            mtime_ns=before.st_mtime_ns,
            ctime_ns=before.st_ctime_ns if is_settled else 0,
        )
