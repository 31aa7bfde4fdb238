"""Objects as files of a folder. An object appears whole, under a name nobody used, or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import threading
from collections import Counter, OrderedDict
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from backups.store.objects import LOCK, Stat
from spaces.errors import NotFoundError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from backups.store.objects import Spool

_CHUNK = 1 << 20
_OPEN_FILES = 32
_HIDDEN = "."  # a named temporary file, where the file system has no unnamed ones
_NO_UNNAMED = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL, errno.ENOENT}


class FolderStore:
    """An `ObjectStore` in a folder, which is made when the first object is stored."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: Counter[str] = Counter()
        self._files: OrderedDict[str, _Shared] = OrderedDict()
        self._lock = threading.Lock()

    def spool(self) -> _FolderSpool:
        """A file in the store's own file system, so that storing it moves no byte."""
        with self._reaching():
            self.root.mkdir(parents=True, exist_ok=True)
            return _FolderSpool(self.root)

    def create(self, name: str, data: bytes | Spool) -> bool:
        """Write, flush to the disk, then give it its name; the folder is flushed too."""
        self.calls["create"] += 1
        with self._reaching():
            if not isinstance(data, bytes):
                if not isinstance(data, _FolderSpool):
                    raise TypeError("a spool of another store")
                return self._publish(name, data)
            spool = self.spool()
            try:
                spool.write_at(0, data)
                return self._publish(name, spool)
            finally:
                spool.close()

    def open(self, name: str) -> BinaryIO:
        """The file itself."""
        self.calls["open"] += 1
        with self._reaching(name):
            return (self.root / name).open("rb")

    def read(self, name: str, offset: int, size: int) -> bytes:
        """One read of an open file; the newest few stay open."""
        self.calls["read"] += 1
        with self._reaching(name):
            return self._opened(name).read(offset, size)

    def list(self, prefix: str = "") -> Iterator[Stat]:
        """Every file below the folder, in order of names."""
        self.calls["list"] += 1
        with self._reaching():
            found = sorted(self._below(self.root, ""), key=lambda stat: stat.name)
        return (stat for stat in found if stat.name.startswith(prefix))

    def read_lock(self) -> tuple[bytes, str] | None:
        """The file `lock`; an empty one counts as none."""
        self.calls["read_lock"] += 1
        with self._reaching():
            try:
                data = (self.root / LOCK).read_bytes()
            except FileNotFoundError:
                return None
            return (data, _tag(data)) if data else None

    def write_lock(self, data: bytes, *, tag: str | None) -> str | None:
        """Rewrite the file in place while the kernel's lock on it is held."""
        self.calls["write_lock"] += 1
        with self._reaching(), self._locked() as number:
            if tag != _present(number):
                return None
            # What is torn by a power cut in between is no lease; whoever finds it takes it over.
            os.pwrite(number, data, 0)
            os.ftruncate(number, len(data))
            return _tag(data)

    def remove_lock(self, *, tag: str) -> bool:
        """Unlink the file if it still holds that version."""
        self.calls["remove_lock"] += 1
        with self._reaching(), self._locked() as number:
            if tag != _present(number):
                return False
            (self.root / LOCK).unlink()
            return True

    def _publish(self, name: str, spool: _FolderSpool) -> bool:
        target = self.root / name
        if not target.parent.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            _flush(target.parent.parent)
        spool.flush()
        try:
            spool.link(target)
        except FileExistsError:
            return spool.equals(target)
        _flush(target.parent)
        return True

    def _opened(self, name: str) -> _Shared:
        with self._lock:
            shared = self._files.get(name)
            if shared is not None:
                self._files.move_to_end(name)
                return shared
            shared = _Shared(self.root / name)
            self._files[name] = shared
            if len(self._files) > _OPEN_FILES:
                self._files.popitem(last=False)  # closed when its last reader lets go of it
            return shared

    def _below(self, folder: Path, prefix: str) -> Iterator[Stat]:
        try:
            entries = list(os.scandir(folder))
        except FileNotFoundError:
            return
        for entry in entries:
            if entry.name.startswith(_HIDDEN):
                continue
            if entry.is_dir():
                yield from self._below(Path(entry.path), f"{prefix}{entry.name}/")
            else:
                with suppress(FileNotFoundError):
                    yield Stat(prefix + entry.name, entry.stat().st_size)

    @contextmanager
    def _locked(self) -> Generator[int]:
        self.root.mkdir(parents=True, exist_ok=True)
        path = self.root / LOCK
        while True:
            number = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(number, fcntl.LOCK_EX)
                if _is_still(path, number):
                    yield number
                    return
            finally:
                os.close(number)

    @contextmanager
    def _reaching(self, name: str | None = None) -> Generator[None]:
        try:
            yield
        except FileNotFoundError as error:
            if name is None:
                raise UnreachableError(
                    f"the store {self.root} does not answer: {error}"
                ) from error
            raise NotFoundError(f"the store {self.root} has no object {name}") from error
        except OSError as error:
            raise UnreachableError(f"the store {self.root} does not answer: {error}") from error


class _FolderSpool:
    """An unnamed file, which vanishes with its process unless it is given a name."""

    def __init__(self, folder: Path) -> None:
        self._temporary: Path | None = None
        flags = os.O_RDWR | os.O_CLOEXEC
        try:
            self._number = os.open(folder, flags | os.O_TMPFILE, 0o600)
        except OSError as error:
            if error.errno not in _NO_UNNAMED:
                raise
            self._temporary = folder / f"{_HIDDEN}{secrets.token_hex(8)}"
            self._number = os.open(self._temporary, flags | os.O_CREAT | os.O_EXCL, 0o600)

    def write_at(self, offset: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            done = os.pwrite(self._number, view, offset)
            offset, view = offset + done, view[done:]

    def read(self) -> Iterator[bytes]:
        at = 0
        while chunk := os.pread(self._number, _CHUNK, at):
            yield chunk
            at += len(chunk)

    def close(self) -> None:
        if self._number >= 0:
            os.close(self._number)
            self._number = -1
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)

    def flush(self) -> None:
        os.fsync(self._number)

    def link(self, target: Path) -> None:
        """Give the file a name. Raises `FileExistsError`."""
        if self._temporary is not None:
            os.link(self._temporary, target)
            return
        folder = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # With a folder given, Python follows the link of /proc: the unnamed file gets the name.
            os.link(
                f"/proc/self/fd/{self._number}",
                target.name,
                dst_dir_fd=folder,
                follow_symlinks=True,
            )
        finally:
            os.close(folder)

    def equals(self, path: Path) -> bool:
        """Whether a file holds the same bytes."""
        if path.stat().st_size != os.fstat(self._number).st_size:
            return False
        with path.open("rb") as other:
            return all(other.read(len(chunk)) == chunk for chunk in self.read())


class _Shared:
    """An open file that several threads read; closed with its last reference."""

    def __init__(self, path: Path) -> None:
        self._number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, offset: int, size: int) -> bytes:
        data = os.pread(self._number, size, offset)
        while len(data) < size and (
            more := os.pread(self._number, size - len(data), offset + len(data))
        ):
            data += more
        return data

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            os.close(self._number)


def _flush(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _is_still(path: Path, number: int) -> bool:
    """Whether the path names the open file: its lock is worth nothing once it was removed."""
    try:
        return os.path.samestat(path.stat(), os.fstat(number))
    except FileNotFoundError:
        return False


def _present(number: int) -> str | None:
    data = os.pread(number, _CHUNK, 0)
    return _tag(data) if data else None


def _tag(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
