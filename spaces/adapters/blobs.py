"""Blob Storage by azure-storage-blob: create-only writes, streamed both ways.

`create` keeps the SHA-256 of what it stored in the blob's metadata, so that a create whose answer
was lost can see whether the blob there is its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
from typing import TYPE_CHECKING, Any

from azure.core.exceptions import HttpResponseError, ResourceExistsError, ResourceNotFoundError
from azure.storage.blob import ContentSettings
from azure.storage.blob.aio import BlobServiceClient, ExponentialRetry

from spaces import telemetry
from spaces.adapters.wire import code_of, translated
from spaces.errors import ConflictError, TransientError
from spaces.ports import BlobInfo

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from azure.core.credentials_async import AsyncTokenCredential

    from spaces.adapters.wire import Wire

SHA256 = "sha256"
"""The metadata name under which `create` keeps the hash of the bytes, in hexadecimal."""
_SINGLE_PUT = 16 * 2**20
_BLOCK = 8 * 2**20


class AzureBlobs:
    """One storage account, by connection string, by account key, or by identity."""

    def __init__(
        self,
        wire: Wire,
        *,
        connection: str | None = None,
        url: str | None = None,
        credential: AsyncTokenCredential | dict[str, str] | None = None,
    ) -> None:
        options: dict[str, Any] = {
            "transport": wire.transport(telemetry.BLOB_CALLS),
            # every call here may be repeated, and one lost answer must not end a whole backup
            "retry_policy": ExponentialRetry(
                initial_backoff=1, increment_base=2, retry_total=2, random_jitter_range=0
            ),
            "max_single_put_size": _SINGLE_PUT,
            "max_block_size": _BLOCK,
            "max_single_get_size": _BLOCK,
            "max_chunk_get_size": _BLOCK,
        }
        if connection is not None:
            self._service = BlobServiceClient.from_connection_string(connection, **options)
        else:
            self._service = BlobServiceClient(str(url), credential=credential, **options)

    async def ensure_container(self, container: str) -> None:
        """Make the container unless it is there."""
        with translated("the container cannot be made", where=container):
            try:
                await self._service.create_container(container)
            except ResourceExistsError as error:
                if code_of(error) == "ContainerBeingDeleted":
                    raise TransientError(
                        "a container of this name is being deleted", where=container
                    ) from error

    async def delete_container(self, container: str) -> None:
        """Remove the container; a missing one counts as done."""
        with translated("the container cannot be deleted", where=container):
            try:
                await self._service.delete_container(container)
            except ResourceNotFoundError:
                return
            except ResourceExistsError as error:
                if code_of(error) != "ContainerBeingDeleted":
                    raise

    async def create(
        self,
        container: str,
        name: str,
        data: bytes | Path,
        *,
        content_type: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> str:
        """Store under a free name; see the port."""
        size, digest = await _measure(data)
        stream = io.BytesIO(data) if isinstance(data, bytes) else await _opened(data)
        blob = self._service.get_blob_client(container, name)
        with translated("the blob was not stored", where=f"{container}/{name}"), stream:
            try:
                answer: Any = await blob.upload_blob(
                    stream,
                    length=size,
                    overwrite=False,
                    max_concurrency=2,
                    metadata={**(metadata or {}), SHA256: digest},
                    content_settings=ContentSettings(content_type=content_type),
                )
            except ResourceExistsError:
                return await self._same(container, name, size, digest)
            return str(answer["etag"]).strip('"')

    async def read(self, container: str, name: str) -> bytes:
        """The whole blob."""
        blob = self._service.get_blob_client(container, name)
        with translated("the blob cannot be read", where=f"{container}/{name}"):
            return await (await blob.download_blob()).readall()

    async def download(self, container: str, name: str, path: Path) -> None:
        """Stream the blob into a file."""
        blob = self._service.get_blob_client(container, name)
        with translated("the blob cannot be read", where=f"{container}/{name}"):
            try:
                source = await blob.download_blob()
                with await asyncio.to_thread(path.open, "wb") as target:
                    async for chunk in source.chunks():
                        target.write(chunk)
            except HttpResponseError as error:
                if error.status_code == 412:
                    raise TransientError(
                        "the blob changed while it was read", where=f"{container}/{name}"
                    ) from error
                raise

    async def info(self, container: str, name: str) -> BlobInfo | None:
        """What a listing would say of this blob, or None."""
        blob = self._service.get_blob_client(container, name)
        with translated("the blob cannot be looked at", where=f"{container}/{name}"):
            try:
                return _info(await blob.get_blob_properties())
            except ResourceNotFoundError:
                return None

    async def list(self, container: str, *, prefix: str = "") -> AsyncIterator[BlobInfo]:
        """Blobs in name order; nothing where the container is missing."""
        client = self._service.get_container_client(container)
        found = client.list_blobs(
            name_starts_with=prefix or None, include=["metadata"]
        ).by_page()
        while True:
            # not around the yield: an error of the caller is none of the storage's
            with translated("the container cannot be listed", where=container):
                try:
                    page = [_info(item) async for item in await anext(found)]
                except (StopAsyncIteration, ResourceNotFoundError):
                    return
            for item in page:
                yield item

    async def delete(self, container: str, name: str) -> None:
        """Remove the blob; a missing one counts as done."""
        blob = self._service.get_blob_client(container, name)
        with translated("the blob cannot be deleted", where=f"{container}/{name}"):
            try:
                await blob.delete_blob()
            except ResourceNotFoundError:
                return

    async def close(self) -> None:
        """Release the client; the connections belong to the wire."""
        await self._service.close()

    async def _same(self, container: str, name: str, size: int, digest: str) -> str:
        """The ETag of the blob that is there, if it holds these bytes."""
        where = f"{container}/{name}"
        there = await self.info(container, name)
        if there is None:
            raise TransientError("the blob was there and is gone", where=where)
        if there.size == size:
            known = there.metadata.get(SHA256) or await self._digest(container, name)
            if known == digest:
                return there.etag
        raise ConflictError("other bytes are stored under this name", where=where)

    async def _digest(self, container: str, name: str) -> str:
        seen = hashlib.sha256()
        source = await self._service.get_blob_client(container, name).download_blob()
        async for chunk in source.chunks():
            seen.update(chunk)
        return seen.hexdigest()


async def _measure(data: bytes | Path) -> tuple[int, str]:
    if isinstance(data, bytes):
        return len(data), hashlib.sha256(data).hexdigest()

    def read() -> tuple[int, str]:
        with data.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return file.tell(), digest

    return await asyncio.to_thread(read)


async def _opened(path: Path) -> io.BufferedReader:
    return await asyncio.to_thread(path.open, "rb")


def _info(properties: Any) -> BlobInfo:  # noqa: ANN401 — BlobProperties
    return BlobInfo(
        name=properties.name,
        size=properties.size,
        etag=str(properties.etag).strip('"'),
        content_type=properties.content_settings.content_type,
        metadata=dict(properties.metadata or {}),
    )
