"""Key vaults: vaults of the local Key Vault, each at an address of its own.

A deleted vault keeps its name and what it holds until it is purged or recovered, as on Azure,
where soft delete cannot be switched off. Nobody purges here when the retention ends.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from local.resource_manager.errors import ArmError
from local.resource_manager.providers.base import Provider, at, one_of

if TYPE_CHECKING:
    from local.resource_manager.cloud import Cloud
    from local.resource_manager.ids import ResourceId
    from local.resource_manager.store import Record

VAULT = "Microsoft.KeyVault/vaults"


class Vaults(Provider):
    """`Microsoft.KeyVault/vaults`."""

    type = VAULT
    required = ("properties.tenantId", "properties.sku.name")
    taken = "VaultAlreadyExists"
    summary = (
        "a vault of the local Key Vault (TLS, own port); a deleted one keeps name and content "
        "until it is purged or recovered"
    )

    def check(self, body: dict[str, Any], target: ResourceId) -> None:
        """Name, SKU and mode."""
        super().check(body, target)
        if (
            not re.fullmatch(r"[a-zA-Z](?:-?[a-zA-Z0-9]){2,23}", target.name)
            or len(target.name) > 24
        ):
            raise ArmError(
                "VaultNameNotValid",
                f"The vault name '{target.name}' is invalid. A vault's name must be between 3-24 "
                "alphanumeric characters, begin with a letter and not hold two hyphens in a row.",
            )
        one_of(at(body, "properties.sku.name"), ("standard", "premium"), "properties.sku.name")
        one_of(
            at(body, "properties.createMode"), ("default", "recover"), "properties.createMode"
        )
        days = at(body, "properties.softDeleteRetentionInDays")
        if isinstance(days, int) and not 7 <= days <= 90:
            raise ArmError(
                "BadRequest", "The property 'softDeleteRetentionInDays' is between 7 and 90."
            )

    async def realise(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """A vault that answers: a new one, the one that is, or the one that was."""
        name, wanted = record.id.name, record.properties
        buried = name.lower() in cloud.store.buried(VAULT)
        recover = str(wanted.get("createMode")).lower() == "recover"
        if buried and not recover:
            raise ArmError(
                "ConflictError",
                f"A vault with the same name already exists in deleted state. You need to "
                f"either recover or purge existing key vault. '{name}'",
                status=409,
            )
        if buried:
            await cloud.vaults.restore(name)
            cloud.store.purge(VAULT, name)
        elif recover and cloud.vaults.get(name) is None:
            raise ArmError(
                "VaultNotFound", f"There is no deleted vault '{name}' to recover.", status=404
            )
        vault = await cloud.vaults.ensure(name)
        days = wanted.get("softDeleteRetentionInDays", 90)
        return {
            "vaultUri": vault.uri,
            "enableSoftDelete": True,
            "softDeleteRetentionInDays": days,
        }

    async def remove(self, record: Record, cloud: Cloud) -> None:
        """Serve it no more; its name stays taken, and what it holds is kept."""
        if "vaultUri" not in record.properties:  # never made: nothing to keep
            await cloud.vaults.remove(record.id.name)
            return
        deleted = datetime.now(UTC)
        days = int(record.properties.get("softDeleteRetentionInDays", 90))
        about = {
            "vaultId": str(record.id),
            "location": record.body.get("location"),
            "tags": record.body.get("tags") or {},
            "deletionDate": deleted.isoformat(timespec="seconds"),
            "scheduledPurgeDate": (deleted + timedelta(days=days)).isoformat(
                timespec="seconds"
            ),
            "purgeProtectionEnabled": record.properties.get("enablePurgeProtection") is True,
        }
        cloud.store.bury(VAULT, record.id.name, about)
        await cloud.vaults.withdraw(record.id.name)


class Secrets(Provider):
    """`Microsoft.KeyVault/vaults/secrets`."""

    type = "Microsoft.KeyVault/vaults/secrets"
    location = "none"
    hidden = ("properties.value",)
    required = ("properties.value",)
    summary = "a version of a secret; the value is never answered"

    async def realise(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """A new version, as each PUT makes one on the service."""
        value = record.hidden["properties.value"]
        made = await cloud.vault_data.set_secret(record.id.root.name, record.id.name, value)
        return {"secretUri": made["id"].rpartition("/")[0], "secretUriWithVersion": made["id"]}


class Keys(Provider):
    """`Microsoft.KeyVault/vaults/keys`."""

    type = "Microsoft.KeyVault/vaults/keys"
    location = "none"
    required = ("properties.kty",)
    summary = "a key, made once; a second PUT answers the first one's version"

    def check(self, body: dict[str, Any], target: ResourceId) -> None:
        """Kinds that the local vault has."""
        super().check(body, target)
        one_of(at(body, "properties.kty"), ("RSA", "EC"), "properties.kty")

    async def realise(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """The key."""
        wanted = record.properties
        kind = {
            "kty": wanted["kty"],
            "key_size": wanted.get("keySize"),
            "crv": wanted.get("curveName"),
            "key_ops": wanted.get("keyOps"),
        }
        kind = {key: value for key, value in kind.items() if value is not None}
        made = await cloud.vault_data.ensure_key(record.id.root.name, record.id.name, kind)
        return {"keyUri": made["kid"].rpartition("/")[0], "keyUriWithVersion": made["kid"]}
