"""Front Door profiles: recorded, and together the table of the local front door.

A host name reaches instances by the same chain of ids as on Azure: custom domain, route, origin
group, origin, private link service, load balancer, backend pool, scale set. A missing link means
no origin, and the front door says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local.resource_manager.errors import ArmError
from local.resource_manager.ids import parse
from local.resource_manager.providers.base import Routing, at, one_of
from local.resource_manager.providers.compute import SCALE_SET
from local.resource_manager.providers.identity import computed_uuid
from local.resource_manager.providers.network import Recorded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.front_door.routes import Origin, Route
    from local.resource_manager.cloud import Cloud
    from local.resource_manager.ids import ResourceId
    from local.resource_manager.store import Record

_PROFILE = "Microsoft.Cdn/profiles"


class Profiles(Recorded):
    """`Microsoft.Cdn/profiles`."""

    type = _PROFILE
    location = "global"
    required = ("sku.name",)
    routing = Routing.CHANGE
    summary = "recorded"

    def check(self, body: dict[str, Any], target: ResourceId) -> None:
        """Front Door, not the older CDN."""
        super().check(body, target)
        wanted = ("Standard_AzureFrontDoor", "Premium_AzureFrontDoor")
        one_of(at(body, "sku.name"), wanted, "sku.name")

    async def realise(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """With the id that origins check."""
        made = await super().realise(record, cloud)
        return made | {"frontDoorId": computed_uuid(record.id, "front-door")}


class Endpoints(Recorded):
    """`Microsoft.Cdn/profiles/afdEndpoints`."""

    type = "Microsoft.Cdn/profiles/afdEndpoints"
    location = "global"
    tracked = False
    routing = Routing.CHANGE

    async def realise(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """With its host name."""
        made = await super().realise(record, cloud)
        tail = made["resourceGuid"].replace("-", "")[:16]
        return made | {"hostName": f"{record.id.name}-{tail}.z01.azurefd.net"}


class CustomDomains(Recorded):
    """`Microsoft.Cdn/profiles/customDomains`."""

    type = "Microsoft.Cdn/profiles/customDomains"
    location = "none"
    tracked = False
    routing = Routing.CHANGE
    required = ("properties.hostName",)
    summary = "a host name of the local front door; validation by DNS is taken as done"

    async def realise(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """Refused when another domain has the host name."""
        made = await super().realise(record, cloud)
        name = str(record.properties["hostName"]).lower()
        for other in cloud.store.of_type(self.type):
            if (
                other.key != record.key
                and str(other.properties.get("hostName")).lower() == name
            ):
                raise ArmError(
                    "Conflict", f"The host name {name} is used by {other.id}.", status=409
                )
        return made | {"domainValidationState": "Approved"}


class OriginGroups(Recorded):
    """`Microsoft.Cdn/profiles/originGroups`."""

    type = "Microsoft.Cdn/profiles/originGroups"
    location = "none"
    tracked = False
    routing = Routing.CHANGE


class ProfileSecrets(Recorded):
    """`Microsoft.Cdn/profiles/secrets`."""

    type = "Microsoft.Cdn/profiles/secrets"
    location = "none"
    tracked = False
    summary = "recorded; the local front door has no TLS"


class Origins(Recorded):
    """`Microsoft.Cdn/profiles/originGroups/origins`."""

    type = "Microsoft.Cdn/profiles/originGroups/origins"
    location = "none"
    tracked = False
    routing = Routing.ALWAYS
    required = ("properties.hostName",)
    summary = "the instances behind its private link service"


class Routes(Recorded):
    """`Microsoft.Cdn/profiles/afdEndpoints/routes`."""

    type = "Microsoft.Cdn/profiles/afdEndpoints/routes"
    location = "none"
    tracked = False
    routing = Routing.ALWAYS
    removal_rank = 10
    required = ("properties.originGroup.id",)
    summary = "rows of the front door's table; `enabledState` Disabled answers 503"

    def check(self, body: dict[str, Any], target: ResourceId) -> None:
        """Two states."""
        super().check(body, target)
        state = at(body, "properties.enabledState")
        one_of(state, ("Enabled", "Disabled"), "properties.enabledState")


def front_door_table(cloud: Cloud) -> list[Route]:
    """Every host name with the origins it leads to, computed from what is recorded."""
    from local.front_door.routes import Route  # noqa: PLC0415 — only where the table is written

    behind = _scale_sets_by_pool(cloud)
    table: list[Route] = []
    for route in cloud.store.of_type(Routes.type):
        if route.state not in ("Succeeded", "Updating"):
            continue
        origins = tuple(_origins(route, behind, cloud))
        endpoint = cloud.store.get(_parent(route.id))
        enabled = _is_enabled(route) and endpoint is not None and _is_enabled(endpoint)
        for domain in _referred(route, "customDomains", cloud):
            name = str(domain.properties["hostName"]).lower()
            table.append(Route(hostname=name, enabled=enabled, origins=origins))
    return sorted(table, key=lambda row: row.hostname)


def _origins(route: Record, behind: dict[str, list[str]], cloud: Cloud) -> Iterator[Origin]:
    from local.front_door.routes import Origin  # noqa: PLC0415 — see above

    group = at(route.body, "properties.originGroup.id")
    for origin in cloud.store.below(parse(group)):
        link = at(origin.body, "properties.sharedPrivateLinkResource.privateLink.id")
        if origin.type != Origins.type.lower() or not _is_enabled(origin) or link is None:
            continue
        pools = _pools_behind(cloud.store.get(parse(link)), cloud)
        names = dict.fromkeys(name for pool in sorted(pools) for name in behind.get(pool, ()))
        for name in names:
            for one in cloud.compute.instances(name):
                yield Origin(address=one.address, zone=one.zone, instance=one.id)


def _pools_behind(link_service: Record | None, cloud: Cloud) -> set[str]:
    pools: set[str] = set()
    if link_service is None:
        return pools
    for front in link_service.properties.get("loadBalancerFrontendIpConfigurations") or []:
        front_id = parse(front["id"])
        balancer = cloud.store.get(_parent(front_id))
        rules = balancer.properties.get("loadBalancingRules") or [] if balancer else []
        pools |= {
            str(at(rule, "properties.backendAddressPool.id")).lower()
            for rule in rules
            if str(at(rule, "properties.frontendIPConfiguration.id")).lower() == front_id.key
        }
    return pools


def _scale_sets_by_pool(cloud: Cloud) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for scale_set in cloud.store.of_type(SCALE_SET):
        for pool in _pools_of(scale_set):
            found.setdefault(pool, []).append(scale_set.id.name)
    return found


def _pools_of(scale_set: Record) -> Iterator[str]:
    profile = "properties.virtualMachineProfile.networkProfile.networkInterfaceConfigurations"
    for card in at(scale_set.body, profile) or []:
        for address in at(card, "properties.ipConfigurations") or []:
            for pool in at(address, "properties.loadBalancerBackendAddressPools") or []:
                yield str(pool.get("id")).lower()


def _referred(record: Record, key: str, cloud: Cloud) -> Iterator[Record]:
    for item in record.properties.get(key) or []:
        found = cloud.store.get(parse(item["id"]))
        if found is not None:
            yield found


def _is_enabled(record: Record) -> bool:
    return str(record.properties.get("enabledState", "Enabled")).lower() == "enabled"


def _parent(child: ResourceId) -> ResourceId:
    parent = child.parent
    if parent is None:
        raise ValueError(f"{child} has no parent")
    return parent
