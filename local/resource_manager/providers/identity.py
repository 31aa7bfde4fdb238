"""Managed identities and role assignments: recorded, with ids that are computed.

One role has an effect here: *Key Vault Secrets User* on a vault lets a scale set's identity read
that vault, and so its instances find their settings (`compute`).
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from local.resource_manager.errors import ArmError
from local.resource_manager.providers.base import Provider, at

if TYPE_CHECKING:
    from local.resource_manager.cloud import Cloud
    from local.resource_manager.ids import ResourceId
    from local.resource_manager.store import Record

IDENTITY = "Microsoft.ManagedIdentity/userAssignedIdentities"
ROLE_ASSIGNMENT = "Microsoft.Authorization/roleAssignments"
SECRETS_USER = "4633458b-17de-408a-b874-0445c86b69e6"


def computed_uuid(record_id: ResourceId, what: str) -> str:
    """A uuid that follows from the resource's id: the same after any restart."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"{record_id.key}#{what}"))


class UserAssignedIdentities(Provider):
    """`Microsoft.ManagedIdentity/userAssignedIdentities`."""

    type = IDENTITY
    summary = "recorded; principal and client id are computed from the resource id"

    async def realise(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """Its ids."""
        return {
            "principalId": computed_uuid(record.id, "principal"),
            "clientId": computed_uuid(record.id, "client"),
            "tenantId": cloud.tenant,
        }


class RoleAssignments(Provider):
    """`Microsoft.Authorization/roleAssignments`."""

    type = ROLE_ASSIGNMENT
    location = "none"
    tracked = False
    required = ("properties.roleDefinitionId", "properties.principalId")
    summary = (
        "recorded; *Key Vault Secrets User* gives a scale set's instances their vault token"
    )

    def check(self, body: dict[str, Any], target: ResourceId) -> None:
        """The name is a guid."""
        super().check(body, target)
        try:
            uuid.UUID(target.name)
        except ValueError as error:
            raise ArmError(
                "InvalidRoleAssignmentId", f"The role assignment ID '{target.name}' is no guid."
            ) from error

    async def realise(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """Its scope."""
        del cloud
        return {"scope": str(record.id.scope)}


def may_read_secrets(cloud: Cloud, principal: str, vault: ResourceId) -> bool:
    """Whether a principal holds *Key Vault Secrets User* on a vault or above it."""
    return any(
        at(one.body, "properties.principalId") == principal
        and str(at(one.body, "properties.roleDefinitionId")).lower().endswith(SECRETS_USER)
        and vault.within(one.id.scope)
        for one in cloud.store.of_type(ROLE_ASSIGNMENT)
    )
