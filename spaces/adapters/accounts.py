"""Storage accounts of spaces and clusters: which endpoint, and by which right.

Where shared keys are allowed the key of a space's account comes from the Resource Manager and is
kept for ten minutes; everywhere else the identity of this process opens the account.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from spaces.adapters.blobs import AzureBlobs
from spaces.errors import InvalidError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azure.core.credentials_async import AsyncTokenCredential

    from spaces.adapters.arm import AzureArm
    from spaces.adapters.wire import Wire

KEY_KEPT_S = 600.0


class AzureAccounts:
    """Opens accounts; see the port."""

    def __init__(
        self,
        wire: Wire,
        arm: AzureArm,
        *,
        credential: AsyncTokenCredential,
        backup_accounts: Mapping[str, str],
        allow_shared_key: bool,
    ) -> None:
        self._wire = wire
        self._arm = arm
        self._credential = credential
        self._backup_accounts = backup_accounts
        self._allow_shared_key = allow_shared_key
        self._keys: dict[tuple[str, str, int], tuple[str, float]] = {}
        self._backups: dict[str, AzureBlobs] = {}

    async def of_space(
        self, resource_group: str, account: str, endpoint: str, *, key: int = 1
    ) -> AzureBlobs:
        """The account of a space."""
        if not self._allow_shared_key:
            return AzureBlobs(self._wire, url=endpoint, credential=self._credential)
        told = await self._key(resource_group, account, key)
        return AzureBlobs(
            self._wire, url=endpoint, credential={"account_name": account, "account_key": told}
        )

    async def connection_of_space(
        self, resource_group: str, account: str, endpoint: str, *, key: int = 1
    ) -> dict[str, str]:
        """How the space's own application reaches its account."""
        if not self._allow_shared_key:
            return {"account_url": endpoint}
        told = await self._key(resource_group, account, key)
        scheme = endpoint.partition("://")[0]
        return {
            "connection_string": (
                f"DefaultEndpointsProtocol={scheme};AccountName={account};AccountKey={told};"
                f"BlobEndpoint={endpoint.rstrip('/')};"
            )
        }

    def backup_of(self, cluster: str) -> AzureBlobs:
        """The backup account of a cluster; an address is opened by identity."""
        if cluster not in self._backups:
            known = self._backup_accounts.get(cluster)
            if known is None:
                raise InvalidError(
                    f"cluster {cluster} has no backup account",
                    where="application settings",
                    remedy="Name it in KPAX_BACKUP_ACCOUNTS.",
                )
            self._backups[cluster] = (
                AzureBlobs(self._wire, url=known, credential=self._credential)
                if known.startswith("http")
                else AzureBlobs(self._wire, connection=known)
            )
        return self._backups[cluster]

    async def renew_key(self, resource_group: str, account: str, *, key: int) -> None:
        """Make one of the account's keys anew; identities have none."""
        if self._allow_shared_key:
            await self._arm.renew_storage_key(resource_group, account, key)
            self._keys.pop((resource_group, account, key), None)

    async def close(self) -> None:
        """Release the clients; the connections belong to the wire."""
        for blobs in self._backups.values():
            await blobs.close()
        self._backups.clear()
        self._keys.clear()

    async def _key(self, resource_group: str, account: str, number: int) -> str:
        # Other processes keep the old key for a while after it was renewed; they ask for the other
        # one by then, since the rotation that renewed it went over to that.
        key, until = self._keys.get((resource_group, account, number), ("", 0.0))
        if time.monotonic() >= until:
            key = await self._arm.storage_key(resource_group, account, number)
            kept = (key, time.monotonic() + KEY_KEPT_S)
            self._keys[resource_group, account, number] = kept
        return key
