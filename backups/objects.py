"""Sealed objects of one backup container, through files of one private folder.

What leaves this process is sealed; what comes back is compared with size and hash before a byte
of it is used. The folder goes away with the attempt that made it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from backups.manifest import ObjectRef
from backups.sealing import Sealer, damaged, unsealed
from spaces.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterator
    from typing import BinaryIO

    from backups.engine import Store


class Objects:
    """Writes and reads the sealed objects of a store under its data key."""

    def __init__(self, store: Store, data_key: bytes, folder: Path) -> None:
        self._store = store
        self._data_key = data_key
        self.folder = folder

    def begin(self, name: str) -> Draft:
        """A new object to write into; nothing is stored before `store`."""
        return Draft(self.folder, data_key=self._data_key, name=name)

    async def store(self, draft: Draft) -> ObjectRef:
        """Store the finished draft under its name, which must be free."""
        ref, path = draft.finished()
        await self._store.blobs.create(self._store.container, ref.name, path)
        path.unlink()
        return ref

    @contextlib.asynccontextmanager
    async def fetched(self, ref: ObjectRef) -> AsyncGenerator[Iterator[bytes]]:
        """The plain bytes of an object, frame by frame, after size and hash were compared.

        Raises `DamagedError`, also out of the iteration.
        """
        path = _free(self.folder)
        try:
            try:
                await self._store.blobs.download(self._store.container, ref.name, path)
            except NotFoundError as error:
                raise damaged(ref.name, "it is missing") from error
            size_bytes, sha256 = await asyncio.to_thread(measured, path)
            if (size_bytes, sha256) != (ref.size_bytes, ref.sha256):
                raise damaged(ref.name, "size or hash is not what the backup says")
            with _open(path) as source:
                yield unsealed(source, data_key=self._data_key, name=ref.name)
        finally:
            path.unlink(missing_ok=True)

    async def read(self, ref: ObjectRef) -> bytes:
        """The plain bytes of a small object."""
        async with self.fetched(ref) as frames:
            return b"".join(frames)


class Draft:
    """One object being written to a file."""

    def __init__(self, folder: Path, *, data_key: bytes, name: str) -> None:
        self._name = name
        self._path = _free(folder)
        self._file = self._path.open("wb")
        self._sealer = Sealer(self._file, data_key=data_key, name=name)

    @property
    def plain_bytes(self) -> int:
        """How much it holds so far."""
        return self._sealer.plain_bytes

    def write(self, data: bytes) -> None:
        """Take more bytes."""
        self._sealer.write(data)

    def finished(self) -> tuple[ObjectRef, Path]:
        """End the object; answers what it is and the file that holds it."""
        written = self._sealer.finish()
        self._file.close()
        ref = ObjectRef(name=self._name, size_bytes=written.size_bytes, sha256=written.sha256)
        return ref, self._path


@contextlib.contextmanager
def workplace() -> Generator[Path]:
    """A private folder for one attempt, removed with all it holds."""
    with tempfile.TemporaryDirectory(prefix="kpax-backup-") as folder:
        yield Path(folder)


def measured(path: Path) -> tuple[int, str]:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        return file.tell(), sha256


def _free(folder: Path) -> Path:
    handle, name = tempfile.mkstemp(dir=folder)
    with open(handle, "wb"):  # noqa: PTH123 - closes the handle that mkstemp opened
        return Path(name)


@contextlib.contextmanager
def _open(path: Path) -> Generator[BinaryIO]:
    with path.open("rb") as file:
        yield file
