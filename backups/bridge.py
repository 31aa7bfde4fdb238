"""The app's ports, which are asynchronous, for the engine, which works in threads.

Each call of a thread runs on the loop that the thread was started from, and waits for its answer.
A run that was given up closes the bridge: its thread ends at its next call.
"""

from __future__ import annotations

import asyncio
import tempfile
import threading
from collections import Counter, OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from backups.store.objects import LOCK, Stat
from spaces.errors import ConflictError, NotFoundError, TransientError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Iterator

    from backups.store.objects import Spool
    from spaces.ports import BlobInfo, Blobs

_CHUNK = 1 << 20
_KEPT = 4


class Bridge:
    """Runs coroutines of one loop from threads."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_closed = False

    def call[T](self, work: Coroutine[object, object, T]) -> T:
        """The answer of a coroutine. Raises what it raises, `TransientError` once closed."""
        if self._is_closed:
            work.close()
            raise TransientError("the attempt was given up")
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def close(self) -> None:
        """Let threads end at their next call."""
        self._is_closed = True


class BlobStore:
    """An `ObjectStore` in a container behind the port `Blobs`.

    The lease is not used here: the saga runs one operation of a space at a time, and manifests are
    create-only. Packs are read through files of a private folder, the newest few of them.
    """

    def __init__(self, bridge: Bridge, blobs: Blobs, container: str, folder: Path) -> None:
        self.calls: Counter[str] = Counter()
        self._bridge = bridge
        self._blobs = blobs
        self._container = container
        self._folder = folder
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, Path] = OrderedDict()

    def spool(self) -> _FileSpool:
        """A file of the folder."""
        return _FileSpool(self._free())

    def create(self, name: str, data: bytes | Spool) -> bool:
        """One conditional Put Blob; the port compares what is there where the name is taken."""
        self.calls["create"] += 1
        content = data.path if isinstance(data, _FileSpool) else cast("bytes", data)
        with suppress(ConflictError):
            self._bridge.call(self._blobs.create(self._container, name, content))
            return True
        return False

    def open(self, name: str) -> BinaryIO:
        """The blob in a file that goes when it is closed."""
        self.calls["open"] += 1
        file = cast("BinaryIO", tempfile.TemporaryFile(dir=self._folder))  # noqa: SIM115 — the caller's
        path = self._download(name)
        with path.open("rb") as source:
            while chunk := source.read(_CHUNK):
                file.write(chunk)
        path.unlink()
        file.seek(0)
        return file

    def read(self, name: str, offset: int, size: int) -> bytes:
        """A part of a blob, which is fetched whole: frames lie one behind the other."""
        with self._lock:
            path = self._kept.get(name)
            if path is None:
                self.calls["read"] += 1
                path = self._kept[name] = self._download(name)
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)[1].unlink()
            else:
                self._kept.move_to_end(name)
            with path.open("rb") as file:
                file.seek(offset)
                return file.read(size)

    def list(self, prefix: str = "") -> Iterator[Stat]:
        """All blobs of that prefix."""
        self.calls["list"] += 1
        found = self._bridge.call(every(self._blobs.list(self._container, prefix=prefix)))
        return iter([Stat(info.name, info.size) for info in found if info.name != LOCK])

    def read_lock(self) -> tuple[bytes, str] | None:
        """Nobody holds it."""
        return None

    def write_lock(self, data: bytes, *, tag: str | None) -> str | None:
        """Held by the saga already."""
        return tag or str(len(data))

    def remove_lock(self, *, tag: str) -> bool:
        """See `write_lock`."""
        return bool(tag)

    def _download(self, name: str) -> Path:
        path = self._free()
        try:
            self._bridge.call(self._blobs.download(self._container, name, path))
        except NotFoundError:
            path.unlink(missing_ok=True)
            raise
        return path

    def _free(self) -> Path:
        with tempfile.NamedTemporaryFile(dir=self._folder, delete=False) as file:
            return Path(file.name)


class _FileSpool:
    """A named file: the port streams it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("r+b")
        self._lock = threading.Lock()

    def write_at(self, offset: int, data: bytes) -> None:
        with self._lock:
            self._file.seek(offset)
            self._file.write(data)
            self._file.flush()

    def read(self) -> Iterator[bytes]:
        with self.path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk

    def close(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


async def every(found: AsyncIterator[BlobInfo]) -> list[BlobInfo]:
    """A listing as a list."""
    return [info async for info in found]
