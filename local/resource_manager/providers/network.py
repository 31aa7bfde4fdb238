"""Networks: recorded as declared, with the ids and states that others refer to.

Nothing is filtered on this machine; what a rule would forbid is held by tests on the template.
What is checked is what the service checks too: that ids lead to something.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, ClassVar

from local.resource_manager.errors import ArmError
from local.resource_manager.ids import DEPLOYMENT_TYPE, GROUP_TYPE, ResourceId, parse
from local.resource_manager.providers.base import Provider, Routing, at
from local.resource_manager.providers.identity import computed_uuid

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.resource_manager.cloud import Cloud
    from local.resource_manager.store import Record


class Recorded(Provider):
    """A type of which nothing is made here: its body is kept, its parts get ids."""

    parts: ClassVar[tuple[str, ...]] = ()
    """Arrays of `{name, properties}` in the properties: each item gets an id of its own."""
    summary = "recorded"

    async def realise(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """Ids for the parts, and a check that every id in the body leads somewhere."""
        check_references(record, cloud)
        made: dict[str, Any] = {"resourceGuid": computed_uuid(record.id, "guid")}
        for part in self.parts:
            items = record.properties.get(part)
            if isinstance(items, list):
                made[part] = [_with_id(record.id, part, item) for item in items]
        return made


class VirtualNetworks(Recorded):
    """`Microsoft.Network/virtualNetworks`."""

    type = "Microsoft.Network/virtualNetworks"
    parts = ("subnets",)
    required = ("properties.addressSpace.addressPrefixes",)


class Subnets(Recorded):
    """`Microsoft.Network/virtualNetworks/subnets`."""

    type = "Microsoft.Network/virtualNetworks/subnets"
    location = "none"
    tracked = False


class NetworkSecurityGroups(Recorded):
    """`Microsoft.Network/networkSecurityGroups`."""

    type = "Microsoft.Network/networkSecurityGroups"
    parts = ("securityRules",)

    def check(self, body: dict[str, Any], target: ResourceId) -> None:
        """Each rule has a priority of its own, as the service wants it."""
        super().check(body, target)
        rules = at(body, "properties.securityRules")
        if not isinstance(rules, list):
            return
        seen: set[tuple[str, int]] = set()
        for rule in rules:
            direction, priority = (
                at(rule, "properties.direction"),
                at(rule, "properties.priority"),
            )
            if not isinstance(priority, int) or not isinstance(direction, str):
                continue
            if not 100 <= priority <= 4096:
                raise ArmError(
                    "SecurityRuleInvalidPriority",
                    f"Security rule has invalid priority {priority}: 100 to 4096.",
                )
            if (direction.lower(), priority) in seen:
                raise ArmError(
                    "SecurityRuleConflict",
                    f"Security rule {rule.get('name')} conflicts with another rule of priority "
                    f"{priority} and direction {direction}.",
                )
            seen.add((direction.lower(), priority))


class LoadBalancers(Recorded):
    """`Microsoft.Network/loadBalancers`."""

    type = "Microsoft.Network/loadBalancers"
    parts = ("frontendIPConfigurations", "backendAddressPools", "probes", "loadBalancingRules")
    routing = Routing.CHANGE


class PrivateLinkServices(Recorded):
    """`Microsoft.Network/privateLinkServices`."""

    type = "Microsoft.Network/privateLinkServices"
    routing = Routing.CHANGE

    async def realise(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """With its alias."""
        made = await super().realise(record, cloud)
        guid, place = made["resourceGuid"], record.body.get("location")
        alias = f"{record.id.name}.{guid}.{place}.azure.privatelinkservice"
        return made | {"alias": alias}


class PrivateEndpoints(Recorded):
    """`Microsoft.Network/privateEndpoints`."""

    type = "Microsoft.Network/privateEndpoints"


class PrivateDnsZoneGroups(Recorded):
    """`Microsoft.Network/privateEndpoints/privateDnsZoneGroups`."""

    type = "Microsoft.Network/privateEndpoints/privateDnsZoneGroups"
    location = "none"
    tracked = False


class PrivateDnsZones(Recorded):
    """`Microsoft.Network/privateDnsZones`."""

    type = "Microsoft.Network/privateDnsZones"
    location = "global"


class PrivateDnsZoneLinks(Recorded):
    """`Microsoft.Network/privateDnsZones/virtualNetworkLinks`."""

    type = "Microsoft.Network/privateDnsZones/virtualNetworkLinks"
    location = "global"


class PublicAddresses(Recorded):
    """`Microsoft.Network/publicIPAddresses`."""

    type = "Microsoft.Network/publicIPAddresses"
    summary = "recorded, with an address of the documentation range 203.0.113.0/24"

    async def realise(self, record: Record, cloud: Cloud) -> dict[str, Any]:
        """With an address that leads nowhere."""
        made = await super().realise(record, cloud)
        number = int(made["resourceGuid"][:2], 16) % 254 + 1
        return made | {"ipAddress": str(ipaddress.ip_address("203.0.113.0") + number)}


class NatGateways(Recorded):
    """`Microsoft.Network/natGateways`."""

    type = "Microsoft.Network/natGateways"


def check_references(record: Record, cloud: Cloud) -> None:
    """Refuse a body with an id that leads nowhere.

    Raises:
        ArmError: `InvalidResourceReference`.
    """
    for text in _ids_in(record.properties):
        if text.lower().startswith(record.key):
            continue
        target = parse(text)
        if not _exists(target, cloud):
            raise ArmError(
                "InvalidResourceReference",
                f"Resource {text} referenced by resource {record.id} was not found. Please make "
                "sure that the referenced resource exists, and that both resources are in the "
                "same region.",
            )


def _exists(target: ResourceId, cloud: Cloud) -> bool:
    if cloud.store.get(target) is not None:
        return True
    if not target.parts or target.type in (GROUP_TYPE, DEPLOYMENT_TYPE):
        return False
    from local.resource_manager.providers import PROVIDERS  # noqa: PLC0415 — it lists this module

    if target.root.type.lower() not in PROVIDERS:
        return True  # of a type that is not made here (an image): nothing can be said
    parent = target.parent and cloud.store.get(target.parent)
    if parent is None:
        return False
    kind = target.parts[-1].pairs[-1][0]
    items = parent.properties.get(kind) or []
    return any(str(item.get("name", "")).lower() == target.name.lower() for item in items)


def _ids_in(value: Any) -> Iterator[str]:  # noqa: ANN401 — JSON
    match value:
        case dict():
            for key, item in value.items():
                if key.lower() in ("id", "privatelinkserviceid") and isinstance(item, str):
                    if item.lower().startswith("/subscriptions/"):
                        yield item
                else:
                    yield from _ids_in(item)
        case list():
            for item in value:
                yield from _ids_in(item)
        case _:
            return


def _with_id(owner: ResourceId, part: str, item: Any) -> Any:  # noqa: ANN401 — JSON
    if not isinstance(item, dict) or not isinstance(item.get("name"), str):
        return item
    state = {**(item.get("properties") or {}), "provisioningState": "Succeeded"}
    return {**item, "id": str(owner.child(part, item["name"])), "properties": state}
