"""Objects as blobs of a container. Creating one is a single Put Blob with `If-None-Match: *`."""

from __future__ import annotations

import os
import tempfile
import threading
from collections import Counter, OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, cast
from urllib.parse import urlsplit

from azure.core import MatchConditions
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.storage.blob import ContainerClient

from backups.store.objects import LOCK, Stat
from spaces.errors import DeniedError, NotFoundError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    from backups.store.objects import Spool

_CHUNK = 1 << 20
_WINDOW = 4 << 20
_WINDOWS = 6
_PUT_LIMIT = 64 << 20
_IN_MEMORY = 1 << 20


class ContainerStore:
    """An `ObjectStore` in a container, which is made when the first object is stored.

    Objects never change, so reads go through a few windows of 4 MiB: frames lie one behind the
    other, and a restore reads a pack in a handful of calls.
    """

    def __init__(self, client: ContainerClient) -> None:
        self.calls: Counter[str] = Counter()
        self._client = client
        self._windows: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def at(cls, url: str, environment: Mapping[str, str]) -> ContainerStore:
        """The container of a URL, whose credential is a signature in the URL or the environment's.

        That is `AZURE_STORAGE_CONNECTION_STRING`, `AZURE_STORAGE_KEY` or
        `AZURE_STORAGE_SAS_TOKEN`, or else whatever `DefaultAzureCredential` finds.
        """
        parts = urlsplit(url)
        path = parts.path.strip("/").split("/")
        connection = environment.get("AZURE_STORAGE_CONNECTION_STRING")
        if connection:
            return cls.of(ContainerClient.from_connection_string, connection, path[-1])
        credential: object = environment.get("AZURE_STORAGE_SAS_TOKEN")
        if key := environment.get("AZURE_STORAGE_KEY"):
            account = path[0] if len(path) > 1 else (parts.hostname or "").split(".")[0]
            credential = {"account_name": account, "account_key": key}
        elif not credential and not parts.query:
            credential = _identity()
        return cls.of(ContainerClient.from_container_url, url, credential)

    @classmethod
    def of(cls, make: Callable[..., ContainerClient], *arguments: object) -> ContainerStore:
        """A store whose calls carry at most a pack upwards and 4 MiB downwards."""
        return cls(
            make(
                *arguments,
                max_single_put_size=_PUT_LIMIT,
                max_single_get_size=_WINDOW,
                max_chunk_get_size=_WINDOW,
            )
        )

    def spool(self) -> _FileSpool:
        """A temporary file."""
        return _FileSpool()

    def create(self, name: str, data: bytes | Spool) -> bool:
        """One conditional Put Blob; where the name is taken, the bytes there are compared."""
        if isinstance(data, bytes):
            spool = self.spool()
            spool.write_at(0, data)
        elif isinstance(data, _FileSpool):
            spool = data
        else:
            raise TypeError("a spool of another store")
        try:
            return self._create(name, spool)
        finally:
            if isinstance(data, bytes):
                spool.close()

    def open(self, name: str) -> BinaryIO:
        """The blob in a temporary file; a small one stays in memory."""
        spooled = cast("BinaryIO", tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY))  # noqa: SIM115
        try:
            with self._reaching(name):
                self.calls["open"] += 1
                stream = self._client.download_blob(name)
                self.calls["open"] += max(0, -(-stream.size // _WINDOW) - 1)
                stream.readinto(spooled)
        except BaseException:
            spooled.close()
            raise
        spooled.seek(0)
        return spooled

    def read(self, name: str, offset: int, size: int) -> bytes:
        """From a window, which is fetched where none covers the range."""
        with self._lock:
            for (blob, start), data in self._windows.items():
                if blob == name and start <= offset and offset + size <= start + len(data):
                    self._windows.move_to_end((blob, start))
                    return data[offset - start : offset - start + size]
        window = self._fetch(name, offset, max(size, _WINDOW))
        with self._lock:
            self._windows[name, offset] = window
            if len(self._windows) > _WINDOWS:
                self._windows.popitem(last=False)
        return window[:size]

    def list(self, prefix: str = "") -> Iterator[Stat]:
        """Page by page."""
        found: list[Stat] = []
        try:
            with self._reaching(prefix):
                for page in self._client.list_blobs(prefix or None).by_page():
                    self.calls["list"] += 1
                    found += [Stat(str(blob.name), int(blob.size)) for blob in page]
        except NotFoundError:
            self.calls["list"] += 1
        return iter(sorted(found, key=lambda stat: stat.name))

    def read_lock(self) -> tuple[bytes, str] | None:
        """The blob and its ETag."""
        self.calls["read_lock"] += 1
        try:
            with self._reaching(LOCK):
                stream = self._client.download_blob(LOCK)
                return stream.readall(), str(stream.properties.etag)
        except NotFoundError:
            return None

    def write_lock(self, data: bytes, *, tag: str | None) -> str | None:
        """One conditional Put Blob."""
        self.calls["write_lock"] += 1
        blob = self._client.get_blob_client(LOCK)
        with self._reaching(LOCK):
            for _ in range(2):
                try:
                    if tag is None:
                        done = blob.upload_blob(data, overwrite=False)
                    else:
                        done = blob.upload_blob(
                            data,
                            overwrite=True,
                            etag=tag,
                            match_condition=MatchConditions.IfNotModified,
                        )
                    return str(done["etag"])
                except (ResourceExistsError, ResourceModifiedError):
                    break
                except ResourceNotFoundError:
                    if tag is not None:
                        return None
                    self._make()
        # The answer to our own write may have been lost: then the bytes are ours.
        there = self.read_lock()
        return there[1] if there is not None and there[0] == data else None

    def remove_lock(self, *, tag: str) -> bool:
        """One conditional Delete Blob."""
        self.calls["remove_lock"] += 1
        with self._reaching(LOCK):
            try:
                self._client.delete_blob(
                    LOCK, etag=tag, match_condition=MatchConditions.IfNotModified
                )
            except (ResourceModifiedError, ResourceNotFoundError):
                return False
        return True

    def _create(self, name: str, spool: _FileSpool) -> bool:
        with self._reaching(name):
            for _ in range(2):
                self.calls["create"] += 1
                try:
                    self._client.upload_blob(
                        name, spool.rewound(), length=spool.size, overwrite=False
                    )
                except (ResourceExistsError, ResourceModifiedError):
                    return self._equals(name, spool)
                except ResourceNotFoundError:
                    self._make()
                else:
                    return True
        raise UnreachableError(f"the container of {name} is not there and cannot be made")

    def _equals(self, name: str, spool: _FileSpool) -> bool:
        with self.open(name) as there:
            same = all(there.read(len(chunk)) == chunk for chunk in spool.read())
            return same and not there.read(1)

    def _fetch(self, name: str, offset: int, size: int) -> bytes:
        self.calls["read"] += 1
        with self._reaching(name):
            try:
                return self._client.download_blob(name, offset=offset, length=size).readall()
            except HttpResponseError as error:
                if error.status_code == 416:
                    return b""  # the range begins behind the end: the object is shorter
                raise

    def _make(self) -> None:
        self.calls["make"] += 1
        try:
            self._client.create_container()
        except ResourceExistsError:
            return

    @contextmanager
    def _reaching(self, name: str) -> Generator[None]:
        where = f"{self._client.account_name}/{self._client.container_name}"
        try:
            yield
        except ResourceNotFoundError as error:
            raise NotFoundError(f"the store {where} has no object {name}") from error
        except ClientAuthenticationError as error:
            raise DeniedError(
                f"the store {where} refuses the credential",
                remedy="Set AZURE_STORAGE_CONNECTION_STRING, _KEY or _SAS_TOKEN.",
            ) from error
        except AzureError as error:
            raise UnreachableError(
                f"the store {where} does not answer: {error.message}"
            ) from error


class _FileSpool:
    """A temporary file that knows its size and can be sent again."""

    def __init__(self) -> None:
        self._file = cast("BinaryIO", tempfile.TemporaryFile())  # noqa: SIM115 — see close
        self.size = 0
        self._lock = threading.Lock()

    def write_at(self, offset: int, data: bytes) -> None:
        number = self._file.fileno()
        view = memoryview(data)
        end = offset + len(data)
        while view:
            done = os.pwrite(number, view, offset)
            offset, view = offset + done, view[done:]
        with self._lock:
            self.size = max(self.size, end)

    def read(self) -> Iterator[bytes]:
        at = 0
        while chunk := os.pread(self._file.fileno(), _CHUNK, at):
            yield chunk
            at += len(chunk)

    def rewound(self) -> BinaryIO:
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        self._file.close()


def _identity() -> object:
    from azure.identity import DefaultAzureCredential  # noqa: PLC0415 — slow to import, rarely used

    return DefaultAzureCredential()
