"""Storage accounts and their containers: accounts of Azurite."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, ClassVar

from local.resource_manager.errors import ArmError
from local.resource_manager.providers.base import Provider, at, one_of
from local.resource_manager.values import UNKNOWN

if TYPE_CHECKING:
    from local.resource_manager.cloud import Cloud
    from local.resource_manager.ids import ResourceId
    from local.resource_manager.store import Record

_SKUS = (
    "Standard_LRS", "Standard_ZRS", "Standard_GRS", "Standard_RAGRS", "Standard_GZRS",
    "Standard_RAGZRS", "Premium_LRS", "Premium_ZRS",
)  # fmt: skip


class StorageAccounts(Provider):
    """`Microsoft.Storage/storageAccounts`."""

    type = "Microsoft.Storage/storageAccounts"
    required = ("sku.name", "kind")
    taken = "StorageAccountAlreadyTaken"
    summary = (
        "an account of the one Azurite (blob and table), with two keys of its own; `listKeys`, "
        "`regenerateKey`"
    )

    def check(self, body: dict[str, Any], target: ResourceId) -> None:
        """Name and SKU as the service wants them."""
        super().check(body, target)
        if not re.fullmatch(r"[a-z0-9]{3,24}", target.name):
            raise ArmError(
                "AccountNameInvalid",
                f"{target.name} is not a valid storage account name. Storage account name must "
                "be between 3 and 24 characters in length and use numbers and lower-case "
                "letters only.",
            )
        one_of(at(body, "sku.name"), _SKUS, "sku.name")
        one_of(at(body, "kind"), ("StorageV2", "BlockBlobStorage", "BlobStorage"), "kind")

    async def realise(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """An account that answers."""
        account = await cloud.accounts.ensure(record.id.name)
        return {
            "primaryEndpoints": {
                "blob": account.blob_endpoint.rstrip("/") + "/",
                "table": account.table_endpoint.rstrip("/") + "/",
            },
            "primaryLocation": record.body.get("location"),
            "statusOfPrimary": "available",
        }

    async def remove(self, record: Record, cloud: Cloud) -> None:
        """The account with everything in it."""
        await cloud.accounts.remove(record.id.name)

    def act(
        self, verb: str, record: Record, argument: dict[str, Any] | None, cloud: Cloud
    ) -> dict[str, Any]:
        """`listKeys`, `regenerateKey`."""
        if verb.lower() not in ("listkeys", "regeneratekey"):
            return super().act(verb, record, argument, cloud)
        if record.properties.get("allowSharedKeyAccess") is False:
            # On Azure the keys are listed and then refused by the data plane. Azurite has no
            # such switch, so the same end is reached one call earlier.
            raise ArmError(
                "KeyBasedAuthenticationNotPermitted",
                f"Key based authentication is not permitted on {record.id.name}.",
                status=403,
            )
        account = cloud.accounts.get(record.id.name)
        if account is None:
            raise ArmError(
                "StorageAccountNotFound", f"{record.id.name} was not found.", status=404
            )
        if verb.lower() == "regeneratekey":
            name = (argument or {}).get("keyName")
            one_of(name, ("key1", "key2"), "keyName")
            if name is None:
                raise ArmError("InvalidParameter", "'keyName' is required.", target="keyName")
            account = cloud.accounts.renew(record.id.name, int(name[-1]))
        keys = (("key1", account.key), ("key2", account.second_key))
        return {
            "keys": [
                {"keyName": name, "value": key, "permissions": "FULL"} for name, key in keys
            ]
        }


class BlobServices(Provider):
    """`Microsoft.Storage/storageAccounts/blobServices`: settings, recorded."""

    type = "Microsoft.Storage/storageAccounts/blobServices"
    location = "none"
    tracked = False
    summary = "recorded (Azurite has no soft delete or versions)"

    def check(self, body: dict[str, Any], target: ResourceId) -> None:
        """There is one, called default."""
        super().check(body, target)
        one_of(target.name, ("default",), "name")


class Containers(Provider):
    """`Microsoft.Storage/storageAccounts/blobServices/containers`."""

    type = "Microsoft.Storage/storageAccounts/blobServices/containers"
    location = "none"
    tracked = False
    summary = "a container of the account"
    _name: ClassVar[re.Pattern[str]] = re.compile(r"[a-z0-9](?:-?[a-z0-9]){2,62}")

    def check(self, body: dict[str, Any], target: ResourceId) -> None:
        """Name as the service wants it; never public."""
        super().check(body, target)
        if not self._name.fullmatch(target.name):
            raise ArmError("InvalidResourceName", f"'{target.name}' is no name of a container.")
        access = at(body, "properties.publicAccess")
        if access is not UNKNOWN:
            one_of(access, ("None", "Blob", "Container"), "properties.publicAccess")

    async def realise(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """The container."""
        await cloud.containers.ensure(_account(record), record.id.name)
        return {}

    async def remove(self, record: Record, cloud: Cloud) -> None:
        """The container with its blobs; gone already when its account is."""
        if cloud.accounts.get(_account(record)) is not None:
            await cloud.containers.remove(_account(record), record.id.name)


def _account(record: Record) -> str:
    return record.id.root.name
