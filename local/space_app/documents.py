"""The space's container: a thin client of the blob service, signed with the account's key.

The whole SDK would cost every space process 16 MiB; four calls are needed here. Uploads go in
blocks and appear only when the list of blocks is committed, so a broken one leaves nothing.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from local.space_app.settings import Storage

_VERSION = "2024-11-04"
_BLOCK_BYTES = 4 * 2**20
_TIMEOUT_S = 30.0


class StorageError(Exception):
    """The storage account did not do what was asked; the text says what it answered."""


class BlobMissingError(StorageError):
    """There is no blob of this name."""


class Documents:
    """One container of one account."""

    def __init__(self, storage: Storage) -> None:
        parts = dict(
            part.split("=", 1) for part in storage.connection_string.split(";") if "=" in part
        )
        try:
            self._account = parts["AccountName"]
            self._key = base64.b64decode(parts["AccountKey"], validate=True)
            endpoint = parts["BlobEndpoint"]
        except (KeyError, ValueError) as error:
            raise StorageError(
                "The connection string lacks a usable AccountName, AccountKey or BlobEndpoint."
            ) from error
        self._container = f"{endpoint.rstrip('/')}/{quote(storage.container)}"
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=_TIMEOUT_S),
            auto_decompress=False,
        )

    async def close(self) -> None:
        """Let go of the connections."""
        await self._session.close()

    async def put(
        self, name: str, content_type: str, chunk: Callable[[], Awaitable[bytes]]
    ) -> tuple[int, str]:
        """Store what `chunk` gives until it gives nothing: (size, SHA-256 in hex).

        Whatever `chunk` raises passes through and leaves no blob.
        """
        digest = hashlib.sha256()
        size = 0
        blocks: list[str] = []
        waiting = bytearray()
        while data := await chunk():
            digest.update(data)
            size += len(data)
            waiting += data
            if len(waiting) >= _BLOCK_BYTES:
                blocks.append(await self._put_block(name, len(blocks), bytes(waiting)))
                waiting.clear()
        kind = {"x-ms-blob-content-type": content_type}
        if blocks:
            if waiting:
                blocks.append(await self._put_block(name, len(blocks), bytes(waiting)))
            listed = "".join(f"<Latest>{block}</Latest>" for block in blocks)
            body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'
            await self._put(name, {"comp": "blocklist"}, body.encode(), kind)
        else:
            await self._put(name, {}, bytes(waiting), {**kind, "x-ms-blob-type": "BlockBlob"})
        return size, digest.hexdigest()

    @asynccontextmanager
    async def get(self, name: str) -> AsyncIterator[aiohttp.StreamReader]:
        """The bytes of a blob, as a stream."""
        async with self._request("GET", name, {}, b"", {}) as answer:
            yield answer.content

    async def _put_block(self, name: str, number: int, data: bytes) -> str:
        block = base64.b64encode(f"{number:06}".encode()).decode()
        await self._put(name, {"comp": "block", "blockid": block}, data, {})
        return block

    async def _put(
        self, name: str, query: Mapping[str, str], body: bytes, headers: Mapping[str, str]
    ) -> None:
        async with self._request("PUT", name, query, body, headers):
            pass

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        name: str,
        query: Mapping[str, str],
        body: bytes,
        headers: Mapping[str, str],
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        url = URL(f"{self._container}/{quote(name)}", encoded=True).with_query(query)
        sent = {
            **headers,
            "x-ms-date": formatdate(usegmt=True),
            "x-ms-version": _VERSION,
            "Content-Type": "application/octet-stream",
        }
        sent["Authorization"] = self._signature(method, url, query, len(body), sent)
        try:
            async with self._session.request(
                method, url, data=body or None, headers=sent
            ) as answer:
                if answer.status == 404 and method == "GET":
                    raise BlobMissingError(f"blob {name} is not there")
                if answer.status >= 300:
                    code = answer.headers.get("x-ms-error-code", "")
                    raise StorageError(f"{method} answered {answer.status} {code}".strip())
                yield answer
        except (aiohttp.ClientError, TimeoutError) as error:
            raise StorageError(f"{method} failed: {type(error).__name__}") from error

    def _signature(
        self,
        method: str,
        url: URL,
        query: Mapping[str, str],
        length: int,
        headers: Mapping[str, str],
    ) -> str:
        """Shared Key of the blob service (documented under "Authorize with Shared Key")."""
        fixed = [""] * 11
        fixed[2] = str(length) if length else ""
        fixed[4] = headers["Content-Type"]
        named = sorted(
            (name.lower(), value) for name, value in headers.items() if name.startswith("x-ms-")
        )
        resource = f"/{self._account}{urlsplit(str(url)).path}"
        text = "\n".join(
            [
                method,
                *fixed,
                *(f"{name}:{value}" for name, value in named),
                resource + "".join(f"\n{key}:{query[key]}" for key in sorted(query)),
            ]
        )
        seal = hmac.digest(self._key, text.encode(), "sha256")
        return f"SharedKey {self._account}:{base64.b64encode(seal).decode()}"
