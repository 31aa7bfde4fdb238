"""The walls of a space, held on the ARM JSON that is deployed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from local.resource_manager.scope import Place
from local.resource_manager.template import read

if TYPE_CHECKING:
    from collections.abc import Iterator

INFRA = Path(__file__).resolve().parents[2] / "infra"
TEMPLATES = ("space.json", "cluster.json")
PARAMETERS = {
    "spaceId", "incarnation", "name", "cluster", "location", "plan", "hostName", "release",
    "configRevision", "routeEnabled", "sharedResourceGroup", "frontDoorProfile",
    "frontDoorEndpoint", "databaseAdminUser", "databaseAdminPassword", "tags",
    "controlPlanePrincipalId", "allowSharedKey",
}  # fmt: skip
OUTPUTS = {
    "databaseHost", "databaseAdminUser", "blobEndpoint", "storageAccount", "vaultUri",
    "scaleSet", "resourceGroup",
}  # fmt: skip


def template(name: str) -> dict[str, Any]:
    return json.loads((INFRA / name).read_text())


def resources(body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every resource of a template, those of nested templates too."""
    for one in body["resources"]:
        yield one
        if "template" in one.get("properties", {}):
            yield from resources(one["properties"]["template"])


def of_type(name: str, kind: str) -> list[dict[str, Any]]:
    return [one for one in resources(template(name)) if one["type"] == kind]


def rules(direction: str) -> list[dict[str, Any]]:
    (group,) = of_type("space.json", "Microsoft.Network/networkSecurityGroups")
    found = [one["properties"] for one in group["properties"]["securityRules"]]
    return sorted(
        (r for r in found if r["direction"] == direction), key=lambda r: r["priority"]
    )


def ports(rule: dict[str, Any]) -> set[str]:
    return (
        {rule["destinationPortRange"]}
        if "destinationPortRange" in rule
        else set(rule["destinationPortRanges"])
    )


def test_space_has_the_parameters_and_outputs_that_the_product_uses() -> None:
    space = template("space.json")
    assert set(space["parameters"]) >= PARAMETERS
    assert set(space["outputs"]) == OUTPUTS
    needed = {name for name, one in space["parameters"].items() if "defaultValue" not in one}
    assert needed <= PARAMETERS, "what the product does not give needs a default"
    assert space["parameters"]["databaseAdminPassword"]["type"] == "secureString"
    assert space["parameters"]["allowSharedKey"]["defaultValue"] is False


@pytest.mark.parametrize("direction", ["Inbound", "Outbound"])
def test_the_last_rule_denies_everything(direction: str) -> None:
    last = rules(direction)[-1]
    assert (last["access"], last["priority"], last["protocol"]) == ("Deny", 4096, "*")
    assert last["sourceAddressPrefix"] == last["destinationAddressPrefix"] == "*"
    assert ports(last) == {"*"}


def test_only_https_ssh_from_the_gateway_and_private_endpoints_come_in() -> None:
    allowed = [rule for rule in rules("Inbound") if rule["access"] == "Allow"]
    seen = {(rule["sourceAddressPrefix"], port) for rule in allowed for port in ports(rule)}
    assert seen == {
        ("AzureFrontDoor.Backend", "443"),
        ("[variables('subnets').link]", "443"),
        ("AzureLoadBalancer", "443"),
        ("[parameters('gatewaySubnetPrefix')]", "22"),
        ("[variables('subnets').instances]", "443"),
        ("[variables('subnets').instances]", "5432"),
    }
    inside = [
        r for r in allowed if r["sourceAddressPrefix"] == "[variables('subnets').instances]"
    ]
    assert {r["destinationAddressPrefix"] for r in inside} == {
        "[variables('subnets').endpoints]"
    }


def test_nothing_is_allowed_from_or_to_the_internet_or_on_all_ports() -> None:
    for direction in ("Inbound", "Outbound"):
        for rule in rules(direction):
            if rule["access"] != "Allow":
                continue
            ends = {rule["sourceAddressPrefix"], rule["destinationAddressPrefix"]}
            assert not ends & {"*", "0.0.0.0/0", "Internet", "Any"}, rule
            assert all(re.fullmatch(r"\d+", port) for port in ports(rule)), rule


def test_every_subnet_with_machines_or_endpoints_has_the_rules() -> None:
    (network,) = of_type("space.json", "Microsoft.Network/virtualNetworks")
    guarded = {
        one["name"]: "networkSecurityGroup" in one["properties"]
        for one in network["properties"]["subnets"]
    }
    assert guarded == {"instances": True, "endpoints": True, "link": False}


@pytest.mark.parametrize("name", TEMPLATES)
def test_nothing_is_reachable_in_public(name: str) -> None:
    text = (INFRA / name).read_text()
    assert not re.search(r'"publicNetworkAccess":\s*"Enabled"', text)
    assert "0.0.0.0/0" not in text
    assert "publicIPAddress" not in text
    for kind in ("Microsoft.KeyVault/vaults", "Microsoft.Storage/storageAccounts"):
        for one in of_type(name, kind):
            assert one["properties"]["publicNetworkAccess"] == "Disabled"
            assert one["properties"]["networkAcls"]["defaultAction"] == "Deny"
    for one in of_type(name, "Microsoft.DBforPostgreSQL/flexibleServers"):
        assert one["properties"]["network"]["publicNetworkAccess"] == "Disabled"


@pytest.mark.parametrize("name", TEMPLATES)
def test_storage_is_zone_redundant_private_and_without_keys_by_default(name: str) -> None:
    accounts = of_type(name, "Microsoft.Storage/storageAccounts")
    assert accounts
    for one in accounts:
        assert one["sku"]["name"] == "Standard_ZRS"
        assert one["properties"]["allowBlobPublicAccess"] is False
        assert one["properties"]["minimumTlsVersion"] == "TLS1_2"
        assert one["properties"]["allowSharedKeyAccess"] == "[parameters('allowSharedKey')]"


def test_database_vault_and_files_have_private_endpoints() -> None:
    (group,) = [
        one for one in resources(template("space.json")) if one["name"] == "[variables('base')]"
    ]
    links = group["properties"]["template"]["variables"]["privateLinks"]
    assert {one["kind"] for one in links} == {"postgresqlServer", "blob", "vault"}


@pytest.mark.parametrize(
    ("plan", "instances", "zones"),
    [("starter", 2, ["1", "2"]), ("standard", 2, ["1", "2"]), ("premium", 3, ["1", "2", "3"])],
)
def test_plans_spread_over_zones(plan: str, instances: int, zones: list[str]) -> None:
    found = template("space.json")["variables"]["plans"][plan]
    assert (found["instances"], found["zones"]) == (instances, zones)
    (scale_set,) = of_type("space.json", "Microsoft.Compute/virtualMachineScaleSets")
    assert scale_set["properties"]["orchestrationMode"] == "Flexible"
    assert scale_set["properties"]["zoneBalance"] is True


def test_only_a_plan_that_says_so_has_no_standby() -> None:
    plans = template("space.json")["variables"]["plans"]
    assert {name: one["databaseStandby"] for name, one in plans.items()} == {
        "starter": "Disabled", "standard": "ZoneRedundant", "premium": "ZoneRedundant",
    }  # fmt: skip


def test_every_name_fits_for_the_longest_space() -> None:
    values = {
        "spaceId": "s-abcdefghij", "incarnation": 999, "name": "n" * 30, "cluster": "united-states",
        "hostName": "x.united-states.example", "release": "2026.11.1",
        "databaseAdminPassword": "p" * 20,
    }  # fmt: skip
    place = Place(subscription="s", tenant="t", deployment="d", location="eastus2")
    given = {name: {"value": value} for name, value in values.items()}
    scope = read(template("space.json"), given, place).scope
    names = scope.variables(scope, "names")  # type: ignore[misc]
    limits = {"vault": 24, "storage": 24, "database": 63, "scaleSet": 64, "group": 90}
    assert {key for key, limit in limits.items() if len(names[key]) > limit} == set()
    assert re.fullmatch("[a-z0-9]{3,24}", names["storage"])


def test_the_backup_key_can_wrap_and_nothing_else() -> None:
    (key,) = of_type("cluster.json", "Microsoft.KeyVault/vaults/keys")
    assert key["properties"]["keyOps"] == ["wrapKey", "unwrapKey"]
    (vault,) = of_type("cluster.json", "Microsoft.KeyVault/vaults")
    assert vault["properties"]["enablePurgeProtection"] is True


def test_the_queues_are_declared_once() -> None:
    bicep = (INFRA / "main.bicep").read_text()
    assert "loadJsonContent('queues.json')" in bicep
    queues = template("queues.json")["queues"]
    assert not [one["name"] for one in queues if one["name"] in bicep]
    fields = set(re.findall(r"one\.(\w+)", bicep))
    assert fields == set(queues[0]), "main.bicep reads every field, and no other"


def test_no_secret_is_in_a_template() -> None:
    for path in INFRA.iterdir():
        text = path.read_text()
        assert not re.search(r"AccountKey=|SharedAccessKey=|BEGIN [A-Z ]*PRIVATE KEY", text), (
            path
        )
