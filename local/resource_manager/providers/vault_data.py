"""Secrets and keys of vaults, through the vaults' own REST interface."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from local.resource_manager.errors import ArmError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import aiohttp

    from local.resource_manager.cloud import VaultServers

_VERSION = "7.4"


class VaultClient:
    """Calls vaults as the control plane."""

    def __init__(
        self,
        vaults: VaultServers,
        http: Callable[[], aiohttp.ClientSession],
        *,
        token: str,
        ca_file: Callable[[], Path],
    ) -> None:
        self._vaults = vaults
        self._http = http
        self._token = token
        self._ca_file = ca_file
        self._tls: ssl.SSLContext | None = None

    async def set_secret(self, vault: str, name: str, value: str) -> dict[str, Any]:
        """A new version of a secret."""
        return await self._call("PUT", vault, f"secrets/{name}", {"value": value})

    async def get_secret(self, vault: str, name: str, version: str | None) -> str | None:
        """The value of a secret; None when there is none."""
        path = f"secrets/{name}/{version}" if version else f"secrets/{name}"
        return (await self._call("GET", vault, path, None, missing=True)).get("value")

    async def ensure_key(self, vault: str, name: str, kind: dict[str, Any]) -> dict[str, Any]:
        """The key, made where there is none."""
        found = await self._call("GET", vault, f"keys/{name}", None, missing=True)
        if not found:
            found = await self._call("POST", vault, f"keys/{name}/create", kind)
        return found["key"]

    async def _call(
        self,
        verb: str,
        vault: str,
        path: str,
        body: dict[str, Any] | None,
        *,
        missing: bool = False,
    ) -> dict[str, Any]:
        server = self._vaults.get(vault)
        if server is None:
            raise ArmError("VaultNotFound", f"The vault {vault} was not found.", status=404)
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=str(self._ca_file()))
        async with self._http().request(
            verb,
            f"{server.uri.rstrip('/')}/{path}",
            params={"api-version": _VERSION},
            json=body,
            headers={"Authorization": f"Bearer {self._token}"},
            ssl=self._tls,
        ) as answer:
            if missing and answer.status == 404:
                return {}
            if answer.status >= 300:
                # The body is not repeated: what was sent may be a secret.
                raise ArmError(
                    "VaultOperationFailed",
                    f"{verb} {path} of the vault {vault} was answered with {answer.status}.",
                    status=500,
                )
            return await answer.json()
