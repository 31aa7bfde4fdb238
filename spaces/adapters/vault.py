"""Key Vaults by azure-keyvault-secrets and azure-keyvault-keys, one client per vault.

A vault with a CA file of its own stands under a name that is none of Azure's: there the check
that the challenge names the vault's own domain is left out, the TLS check stays.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.keyvault.keys.aio import KeyClient
from azure.keyvault.keys.crypto import KeyWrapAlgorithm
from azure.keyvault.keys.crypto.aio import CryptographyClient
from azure.keyvault.secrets.aio import SecretClient

from spaces import telemetry
from spaces.adapters.wire import translated
from spaces.errors import DeniedError, UnknownError, WrongKeyError

if TYPE_CHECKING:
    from collections.abc import Collection
    from datetime import datetime
    from pathlib import Path

    from azure.core.credentials_async import AsyncTokenCredential

    from spaces.adapters.wire import Wire

_ALGORITHM = KeyWrapAlgorithm.rsa_oaep_256
_LOOK_S = 0.2
"""Between two looks whether a secret is deleted: the SDK waits for that, a moment as a rule."""


class _Clients:
    """What both kinds of clients are made with."""

    def __init__(
        self, wire: Wire, *, credential: AsyncTokenCredential, ca_file: Path | None
    ) -> None:
        self.credential = credential
        self.options: dict[str, Any] = {
            "transport": wire.transport(telemetry.VAULT_CALLS),
            "retry_total": 0,
        }
        if ca_file is not None:
            self.options["verify_challenge_resource"] = False


class VaultSecrets:
    """Secrets of any vault, by its URI."""

    def __init__(
        self, wire: Wire, *, credential: AsyncTokenCredential, ca_file: Path | None = None
    ) -> None:
        self._with = _Clients(wire, credential=credential, ca_file=ca_file)
        self._clients: dict[str, SecretClient] = {}

    async def get(self, vault: str, name: str) -> str | None:
        """The newest version's value, or None."""
        with translated(f"secret {name} cannot be read", where=f"vault {vault}"):
            try:
                return (await self._client(vault).get_secret(name)).value
            except ResourceNotFoundError:
                return None

    async def create(self, vault: str, name: str, value: str) -> str:
        """Create-only; answers the value in force.

        The service has no conditional write. Two that create at the same time both look at the
        versions afterwards and agree on the oldest, which the other one makes current again.
        """
        there = await self.get(vault, name)
        if there is not None:
            return there
        client = self._client(vault)
        with translated(f"secret {name} cannot be made", where=f"vault {vault}"):
            mine = (await client.set_secret(name, value)).properties.version
            found = [
                (version.created_on, version.version)
                async for version in client.list_properties_of_secret_versions(name)
            ]
            first = _oldest(found)
            if first == mine:
                return value
            winner = (await client.get_secret(name, first)).value
            if winner is None:
                raise UnknownError(f"secret {name} has no value", where=f"vault {vault}")
            if winner != value:
                await client.set_secret(name, winner)
            return winner

    async def put_version(self, vault: str, name: str, value: str) -> None:
        """A new version that is the current one from now on."""
        with translated(f"secret {name} cannot be changed", where=f"vault {vault}"):
            await self._client(vault).set_secret(name, value)

    async def disable_old(self, vault: str, name: str) -> None:
        """Every version but the newest can be read no more."""
        client = self._client(vault)
        with translated(f"secret {name} cannot be changed", where=f"vault {vault}"):
            try:
                newest = (await client.get_secret(name)).properties.version
                async for one in client.list_properties_of_secret_versions(name):
                    if one.version != newest and one.enabled:
                        await client.update_secret_properties(name, one.version, enabled=False)
            except ResourceNotFoundError:
                return

    async def delete(self, vault: str, name: str) -> bool:
        """Delete a secret and purge it; see the port."""
        client = self._client(vault)
        with translated(f"secret {name} cannot be deleted", where=f"vault {vault}"):
            with contextlib.suppress(ResourceNotFoundError):
                await client.delete_secret(name, _polling_interval=_LOOK_S)
            try:
                deleted = await client.get_deleted_secret(name)
                level = str(deleted.properties.recovery_level)
                if "purgeable" not in level.lower():
                    return False
                await client.purge_deleted_secret(name)
            except ResourceNotFoundError:
                return True
        return True

    async def close(self) -> None:
        """Release the clients; the connections belong to the wire."""
        for client in self._clients.values():
            await client.close()
        self._clients.clear()

    def _client(self, vault: str) -> SecretClient:
        if vault not in self._clients:
            self._clients[vault] = SecretClient(
                vault, self._with.credential, **self._with.options
            )
        return self._clients[vault]


class VaultKeys:
    """Keys of the clusters' vaults; keys of other vaults are refused."""

    def __init__(
        self,
        wire: Wire,
        *,
        credential: AsyncTokenCredential,
        vaults: Collection[str],
        ca_file: Path | None = None,
    ) -> None:
        self._with = _Clients(wire, credential=credential, ca_file=ca_file)
        self._hosts = {urlsplit(vault).netloc.lower() for vault in vaults}
        self._vaults: dict[str, KeyClient] = {}
        self._keys: dict[str, CryptographyClient] = {}

    async def wrap(self, vault: str, key: str, data: bytes) -> tuple[str, bytes]:
        """Wrap with the key's newest version; its public half does it here."""
        self._check(vault)
        with translated(f"key {key} cannot wrap", where=f"vault {vault}"):
            if vault not in self._vaults:
                self._vaults[vault] = KeyClient(
                    vault, self._with.credential, **self._with.options
                )
            newest = await self._vaults[vault].get_key(key)
            result = await self._cryptography(newest.id, newest).wrap_key(_ALGORITHM, data)
        return str(newest.id), result.encrypted_key

    async def unwrap(self, key_id: str, wrapped: bytes) -> bytes:
        """Unwrap in the vault, by the versioned key id."""
        self._check(key_id)
        with translated("the key cannot unwrap", where=f"key {key_id}"):
            try:
                result = await self._cryptography(key_id, key_id).unwrap_key(
                    _ALGORITHM, wrapped
                )
            except HttpResponseError as error:
                if error.status_code == 400:
                    raise WrongKeyError(
                        "the key does not open this data",
                        where=f"key {key_id}",
                        remedy="It was wrapped with another key, or it is damaged.",
                    ) from error
                raise
        return result.key

    async def close(self) -> None:
        """Release the clients; the connections belong to the wire."""
        for client in [*self._vaults.values(), *self._keys.values()]:
            await client.close()
        self._vaults.clear()
        self._keys.clear()

    def _cryptography(self, key_id: str | None, key: Any) -> CryptographyClient:  # noqa: ANN401 — key or its id
        name = str(key_id)
        if name not in self._keys:
            self._keys[name] = CryptographyClient(
                key, self._with.credential, **self._with.options
            )
        return self._keys[name]

    def _check(self, url: str) -> None:
        """A key id comes out of a stored blob: it must not choose where our token is sent."""
        if urlsplit(url).scheme != "https" or urlsplit(url).netloc.lower() not in self._hosts:
            raise DeniedError(
                "the key is in no vault of this estate",
                where=f"key {url}",
                remedy="The clusters' vaults: KPAX_CLUSTER_VAULTS.",
            )


def _oldest(versions: list[tuple[datetime | None, str | None]]) -> str | None:
    known = [(at.timestamp() if at else 0.0, version or "") for at, version in versions]
    return min(known)[1] if known else None
