"""Containers through the blob service itself, with two signed requests.

Shared Key as the storage services define it; the SDK would cost the Resource Manager 30 MiB.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from email.utils import formatdate
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from local.resource_manager.errors import ArmError

if TYPE_CHECKING:
    from collections.abc import Callable

    import aiohttp

    from local.resource_manager.cloud import Accounts

_VERSION = "2021-12-02"


class BlobContainers:
    """Makes and deletes containers of accounts."""

    def __init__(self, accounts: Accounts, http: Callable[[], aiohttp.ClientSession]) -> None:
        self._accounts = accounts
        self._http = http

    async def ensure(self, account: str, name: str) -> None:
        """The container, made where needed."""
        await self._send("PUT", account, name, good=(201, 409))

    async def remove(self, account: str, name: str) -> None:
        """Delete it with its blobs; a missing one is no error."""
        await self._send("DELETE", account, name, good=(202, 404))

    async def _send(self, verb: str, account: str, name: str, *, good: tuple[int, ...]) -> None:
        found = self._accounts.get(account)
        if found is None:
            raise ArmError("StorageAccountNotFound", f"{account} was not found.", status=404)
        url = f"{found.blob_endpoint.rstrip('/')}/{name}?restype=container"
        headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": _VERSION}
        said = "".join(f"{key}:{value}\n" for key, value in sorted(headers.items()))
        # The path of an address-style endpoint holds the account's name, and so it stands twice.
        resource = f"/{account}{urlsplit(url).path}\nrestype:container"
        text = verb + "\n" * 12 + said + resource
        digest = hmac.new(base64.b64decode(found.key), text.encode(), hashlib.sha256).digest()
        headers["Authorization"] = f"SharedKey {account}:{base64.b64encode(digest).decode()}"
        async with self._http().request(
            verb, url, headers=headers, skip_auto_headers=["Content-Type"]
        ) as answer:
            if answer.status not in good:
                raise ArmError(
                    "StorageOperationFailed",
                    f"{verb} container {name} of {account}: {answer.status} "
                    f"{(await answer.text())[:200]}",
                    status=500,
                )
