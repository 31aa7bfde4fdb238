"""The published list of resource types; anything else is refused."""

from local.resource_manager.providers import (
    compute,
    front_door,
    identity,
    network,
    postgres,
    postgres_settings,
    storage,
    template_specs,
    vault,
)
from local.resource_manager.providers.base import Provider

PROVIDERS: dict[str, Provider] = {
    provider.type.lower(): provider
    for provider in (
        storage.StorageAccounts(),
        storage.BlobServices(),
        storage.Containers(),
        postgres.FlexibleServers(),
        postgres.Databases(),
        postgres_settings.Configurations(),
        vault.Vaults(),
        vault.Secrets(),
        vault.Keys(),
        compute.ScaleSets(),
        identity.UserAssignedIdentities(),
        identity.RoleAssignments(),
        network.VirtualNetworks(),
        network.Subnets(),
        network.NetworkSecurityGroups(),
        network.LoadBalancers(),
        network.PrivateLinkServices(),
        network.PrivateEndpoints(),
        network.PrivateDnsZoneGroups(),
        network.PrivateDnsZones(),
        network.PrivateDnsZoneLinks(),
        network.PublicAddresses(),
        network.NatGateways(),
        front_door.Profiles(),
        front_door.Endpoints(),
        front_door.CustomDomains(),
        front_door.ProfileSecrets(),
        front_door.OriginGroups(),
        front_door.Origins(),
        front_door.Routes(),
        template_specs.TemplateSpecs(),
        template_specs.Versions(),
    )
}

NAMESPACES = frozenset(one.partition("/")[0] for one in PROVIDERS) | {"microsoft.resources"}

__all__ = ["NAMESPACES", "PROVIDERS", "Provider"]
