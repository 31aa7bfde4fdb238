"""Attachments, the blobs of a space's container, as files of the engine: captured, put back, proved.

A blob whose name, size and ETag are those of the last snapshot is not read. What a blob is besides
its bytes (ETag, content type, metadata) stands as JSON in its entry's `target`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import msgspec

from backups.bridge import Bridge, every
from backups.files import model
from backups.files.chunks import Chunks
from backups.files.model import Entry, Kind
from backups.store.keys import DIGEST_BYTES
from spaces.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from backups.engine import Files
    from backups.store.keys import Keys
    from backups.store.manifest import Manifest
    from backups.store.packs import Reader
    from spaces.ports import BlobInfo

_CHUNK = 1 << 20


class Besides(msgspec.Struct, frozen=True, kw_only=True):
    """What a blob is besides its bytes."""

    etag: str
    content_type: str | None
    metadata: dict[str, str]


class Attachments:
    """The blobs of one container; a `Source` in the order of a walk. Works in a private folder."""

    def __init__(self, bridge: Bridge, files: Files, folder: Path) -> None:
        self.problems: list[str] = []
        self._bridge = bridge
        self._files = files
        self._folder = folder

    def entries(self) -> Iterator[tuple[bytes, Entry]]:
        """Every blob; names are few bytes, so the list is held and sorted."""
        found = self._bridge.call(every(self._files.blobs.list(self._files.container)))
        entries = [(info.name.encode(), _entry(info)) for info in found]
        entries.sort(key=lambda pair: model.order(pair[1].path))
        return iter(entries)

    def open(self, path: bytes) -> _Fetched:
        """A blob, fetched when it is entered."""
        return _Fetched(self._bridge, self._files, path.decode(), self._folder)

    def has_folder_of(self, path: bytes) -> bool:
        """A blob that is gone was deleted: containers have no folders to vanish."""
        return bool(path)

    def see_that_it_stayed(self) -> None:
        """A container that is gone answers no listing: that was an error already."""

    def put_back(self, manifest: Manifest, reader: Reader, keys: Keys) -> None:
        """Write every attachment into the container. Repeatable. Raises `DamagedError`."""
        blobs, container = self._files.blobs, self._files.container
        self._bridge.call(blobs.ensure_container(container))
        chunks = Chunks(reader, keys)
        path = self._folder / "attachment"
        for entry in _files_of(manifest):
            with path.open("wb") as file:
                for data in chunks.content(entry):
                    file.write(data)
            besides = _besides(entry)
            work = blobs.create(
                container,
                _name(entry),
                path,
                content_type=besides.content_type if besides else None,
                metadata=besides.metadata if besides else {},
            )
            self._bridge.call(work)
        path.unlink(missing_ok=True)

    def differences(self, manifest: Manifest, keys: Keys) -> list[str]:
        """What of the container is not as the snapshot says, each blob read in full."""
        found = self._bridge.call(every(self._files.blobs.list(self._files.container)))
        there = {info.name: info for info in found}
        wrong = missing = 0
        for entry in _files_of(manifest):
            info = there.pop(_name(entry), None)
            if info is None:
                missing += 1
            elif not _is_same(entry, info, keys, self.open(info.name.encode())):
                wrong += 1
        wrong += len(there)
        said = [f"{wrong} attachments are not what was stored"] if wrong else []
        return said + ([f"{missing} attachments are missing"] if missing else [])


class _Fetched:
    """One blob in a file of its own."""

    def __init__(self, bridge: Bridge, files: Files, name: str, folder: Path) -> None:
        self._bridge = bridge
        self._files = files
        self._name = name
        self._path = folder / f"attachment-{id(self)}"
        self.size = 0

    def __enter__(self) -> Self:
        try:
            work = self._files.blobs.download(self._files.container, self._name, self._path)
            self._bridge.call(work)
        except NotFoundError as error:
            raise FileNotFoundError(self._name) from error
        self.size = self._path.stat().st_size
        self._file = self._path.open("rb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._path.unlink()

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def read_all(self) -> bytes:
        return self._file.read()

    def seen(self, entry: Entry, size: int) -> tuple[bool, Entry]:
        # Overwritten since the listing, it has another ETag: the next run reads it again.
        return True, msgspec.structs.replace(entry, size=size)


def reread(manifest: Manifest, reader: Reader, keys: Keys) -> None:
    """Read every attachment out of the store and compare it, writing none."""
    chunks = Chunks(reader, keys)
    for entry in model.entries_of(manifest):
        for _ in chunks.content(entry):
            pass


def _is_same(entry: Entry, info: BlobInfo, keys: Keys, fetched: _Fetched) -> bool:
    besides = _besides(entry)
    if besides is not None and info.content_type != besides.content_type:
        return False
    hasher = keys.hasher()
    with fetched as file:
        while data := file.read(_CHUNK):
            hasher.update(data)
        return file.size == entry.size and hasher.digest(DIGEST_BYTES) == entry.digest


def _entry(info: BlobInfo) -> Entry:
    besides = Besides(
        etag=info.etag, content_type=info.content_type, metadata=dict(info.metadata)
    )
    target = msgspec.json.encode(besides).decode()
    name = model.quoted(info.name.encode())
    return Entry(name, Kind.FILE, 0o644, 0, 0, 0, 0, info.size, target, b"", ())


def _name(entry: Entry) -> str:
    return model.unquoted(entry.path).decode()


def _besides(entry: Entry) -> Besides | None:
    return msgspec.json.decode(entry.target, type=Besides) if entry.target else None


def _files_of(manifest: Manifest) -> Iterator[Entry]:
    return (entry for entry in model.entries_of(manifest) if entry.kind is Kind.FILE)
