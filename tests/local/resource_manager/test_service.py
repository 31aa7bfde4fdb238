"""What the Resource Manager itself knows: namespaces, versions, places, tags, names, filters."""

from __future__ import annotations

from typing import Any

import pytest
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.mgmt.resource.deployments import DeploymentsMgmtClient
from azure.mgmt.resource.resources import ResourceManagementClient

from tests.local.resource_manager.clients import (
    Arm,
    a_network,
    an_account,
    group_template,
)

NETWORK = {k: v for k, v in a_network().items() if k in ("location", "properties")}


@pytest.fixture
def client(arm: Arm) -> Any:
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    return arm.client(ResourceManagementClient)


def network(client: Any, name: str, **parts: Any) -> Any:
    return client.resources.begin_create_or_update(
        parts.pop("group", "rg"), "Microsoft.Network", "", "virtualNetworks", name,
        api_version=parts.pop("api_version", "2024-05-01"), parameters={**NETWORK, **parts},
    ).result()  # fmt: skip


def code(error: pytest.ExceptionInfo[Any]) -> str:
    return error.value.error.code


def deploy(arm: Arm, resource: dict[str, Any]) -> Any:
    body = {"properties": {"mode": "Incremental", "template": group_template(resource)}}
    return arm.deployments.begin_create_or_update("rg", "d", body).result()


def test_a_resource_is_reached_by_its_names_alone(client: Any) -> None:
    assert network(client, "net").name == "net"
    names = ("rg", "Microsoft.Network", "", "virtualNetworks", "net")
    version = {"api_version": "2024-05-01"}
    assert client.resources.get(*names, **version).location == "francecentral"
    assert client.resources.check_existence(*names, **version)
    client.resources.begin_delete(*names, **version).result()
    assert not client.resources.check_existence(*names, **version)


@pytest.mark.parametrize("version", ["2024-05-02", "2030-01-01", "1999-01-01-preview"])
def test_a_version_that_a_type_does_not_have_is_refused(
    arm: Arm, client: Any, version: str
) -> None:
    for call in (
        lambda: network(client, "net", api_version=version),
        lambda: deploy(arm, a_network(apiVersion=version)),
        lambda: client.resources.get(
            "rg", "Microsoft.Network", "", "virtualNetworks", "net", api_version=version
        ),
    ):
        with pytest.raises(HttpResponseError) as refused:
            call()
        assert refused.value.status_code == 400
        assert code(refused) == "NoRegisteredProviderFound"
        assert "2024-05-01" in str(refused.value)
    assert [one.id.name for one in arm.cloud.store.all()] == ["rg"]


def test_what_is_no_version_is_refused(arm: Arm, client: Any) -> None:
    with pytest.raises(HttpResponseError) as refused:
        network(client, "net", api_version="latest")
    assert code(refused) == "InvalidApiVersionParameter"
    old: Any = arm.client(ResourceManagementClient, api_version="2012-01-01")
    with pytest.raises(HttpResponseError) as own:
        old.resource_groups.get("rg")
    assert code(own) == "InvalidApiVersionParameter"
    nested = {
        "type": "Microsoft.Resources/deployments",
        "apiVersion": "2021-08-01",
        "name": "n",
        "properties": {"mode": "Incremental", "template": group_template()},
    }
    with pytest.raises(HttpResponseError, match="'ApiVersion' property is invalid") as inside:
        deploy(arm, nested)
    assert code(inside) == "InvalidTemplate"


@pytest.mark.parametrize("place", ["West Europe", "eastus", "japaneast"])
def test_every_public_region_is_a_place(client: Any, place: str) -> None:
    assert network(client, "net", location=place).location


@pytest.mark.parametrize(
    ("resource", "place"),
    [
        (a_network(), "global"),
        (a_network(), "usgovvirginia"),
        (an_account(), "atlantis"),
        ({"type": "Microsoft.Network/privateDnsZones", "apiVersion": "2024-06-01",
          "name": "a.example"}, "francecentral"),
    ],
)  # fmt: skip
def test_a_place_that_a_type_does_not_have_is_refused(
    arm: Arm, client: Any, resource: dict[str, Any], place: str
) -> None:
    del client
    with pytest.raises(HttpResponseError) as refused:
        deploy(arm, {**resource, "location": place})
    assert code(refused) == "LocationNotAvailableForResourceType"


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("Microsoft.Nonsense/things", "InvalidResourceNamespace"),
        ("Microsoft.Network/things", "InvalidResourceType"),
    ],
)
def test_a_type_that_is_not_there_is_refused(
    arm: Arm, client: Any, kind: str, wanted: str
) -> None:
    del client
    with pytest.raises(HttpResponseError) as refused:
        deploy(arm, {**a_network(), "type": kind})
    assert (code(refused), refused.value.status_code) == (wanted, 400)


def test_namespaces_tell_their_types_versions_and_places(arm: Arm, client: Any) -> None:
    found = client.providers.get("microsoft.network")
    assert (found.namespace, found.registration_state) == ("Microsoft.Network", "Registered")
    kinds = {one.resource_type: one for one in found.resource_types}
    assert "2024-05-01" in kinds["virtualNetworks"].api_versions
    assert "westeurope" in kinds["virtualNetworks"].locations
    assert kinds["privateDnsZones"].locations == ["global"]
    assert "2024-05-01" not in kinds["privateDnsZones"].api_versions
    told = client.provider_resource_types.list("Microsoft.Network")
    assert {one.resource_type for one in told.value} == set(kinds)
    tenants = {one.namespace for one in client.providers.list_at_tenant_scope()}
    assert tenants == {one.namespace for one in client.providers.list()}
    assert client.providers.get_at_tenant_scope("Microsoft.Storage").namespace
    with pytest.raises(ResourceExistsError) as kept:
        client.providers.unregister("Microsoft.Resources")
    assert code(kept) == "CannotUnregisterResourceProvider"
    with pytest.raises(ResourceNotFoundError) as missing:
        client.providers.get("Microsoft.Nonsense")
    assert code(missing) == "InvalidResourceNamespace"


def test_a_move_is_refused_clearly(client: Any) -> None:
    net = network(client, "net")
    client.resource_groups.create_or_update("other", {"location": "francecentral"})
    goal = net.id.partition("/providers/")[0].replace("/rg", "/other")
    for call in (
        client.resources.begin_move_resources,
        client.resources.begin_validate_move_resources,
    ):
        with pytest.raises(ResourceExistsError, match="virtualNetworks") as refused:
            call("rg", {"resources": [net.id], "targetResourceGroup": goal})
        assert code(refused) == "ResourceMoveNotSupported"
        with pytest.raises(HttpResponseError) as empty:
            call("rg", {"resources": [], "targetResourceGroup": goal})
        assert code(empty) == "InvalidRequestContent"
    with pytest.raises(ResourceNotFoundError):
        client.resources.begin_move_resources(
            "none", {"resources": [net.id], "targetResourceGroup": goal}
        )


@pytest.mark.parametrize(
    ("tags", "wanted"),
    [
        ({f"t{n}": "x" for n in range(51)}, "InvalidTagCount"),
        ({"a/b": "x"}, "InvalidTagNameCharacters"),
        ({"a" * 513: "x"}, "InvalidTagNameLength"),
        ({"a": "x" * 257}, "InvalidTagValueLength"),
    ],
)
def test_tags_beyond_the_limits_are_refused(
    arm: Arm, client: Any, tags: dict[str, str], wanted: str
) -> None:
    net = network(client, "net", tags={"a": "b"})
    for call in (
        lambda: client.resource_groups.create_or_update(
            "new", {"location": "uksouth", "tags": tags}
        ),
        lambda: client.resource_groups.update("rg", {"tags": tags}),
        lambda: network(client, "net", tags=tags),
        lambda: deploy(arm, a_network(tags=tags)),
        lambda: client.tags.begin_create_or_update_at_scope(
            net.id, {"properties": {"tags": tags}}
        ),
    ):
        with pytest.raises(HttpResponseError) as refused:
            call()
        assert code(refused) == wanted
    assert client.resources.get_by_id(net.id, api_version="2024-05-01").tags == {"a": "b"}


def test_tags_in_use_are_counted(client: Any) -> None:
    network(client, "one", tags={"team": "a"})
    network(client, "two", tags={"team": "a", "env": "x"})
    found = {one.tag_name: one for one in client.tags.list()}
    assert found["team"].count.value == 2
    assert [(one.tag_value, one.count.value) for one in found["team"].values_property] == [
        ("a", 2)
    ]
    assert found["env"].count.value == 1


@pytest.mark.parametrize("name", ["a" * 91, "ends.", "a b", "a%23"])
def test_a_name_that_no_group_may_have_is_refused(client: Any, name: str) -> None:
    with pytest.raises(HttpResponseError) as refused:
        client.resource_groups.create_or_update(name, {"location": "francecentral"})
    assert refused.value.status_code == 400


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("resourceType eq 'microsoft.network/virtualnetworks'", ["one", "two"]),
        ("resourceType ne 'Microsoft.Network/virtualNetworks'", ["account"]),
        ("name eq 'one'", ["one"]),
        ("name eq 'one' or name eq 'account'", ["account", "one"]),
        ("substringof('o', name)", ["account", "one", "two"]),
        ("substringof('n', name) and location eq 'uksouth'", ["one"]),
        ("substringof('ther', resourceGroup)", ["account"]),
        ("location eq 'francecentral'", ["account", "two"]),
        ("tagName eq 'team' and tagValue eq 'a'", ["one"]),
        ("tagName eq 'Team'", ["one", "two"]),
        ("startswith(tagName, 'te')", ["one", "two"]),
    ],
)
def test_resources_are_listed_by_filter(client: Any, expression: str, names: list[str]) -> None:
    network(client, "one", tags={"team": "a"}, location="uksouth")
    network(client, "two", tags={"team": "b"})
    client.resource_groups.create_or_update("another", {"location": "francecentral"})
    client.resources.begin_create_or_update(
        "another", "Microsoft.Storage", "", "storageAccounts", "account",
        {"location": "francecentral", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}},
        api_version="2024-01-01",
    ).result()  # fmt: skip
    found = list(client.resources.list(filter=expression))
    assert sorted(one.name for one in found) == names
    if "tagname" in expression.lower():
        assert [one.tags for one in found] == [None] * len(found)


@pytest.mark.parametrize("expression", ["nonsense", "tagValue eq 'a'", "name eq one", "a and"])
def test_a_filter_that_is_none_is_refused(client: Any, expression: str) -> None:
    with pytest.raises(HttpResponseError) as refused:
        list(client.resources.list(filter=expression))
    assert code(refused) == "InvalidFilterInQueryString"


def test_lists_come_in_pages(client: Any) -> None:
    for number in range(5):
        network(client, f"net{number}")
    assert len(list(client.resources.list(top=2))) == 5
    pages = list(client.resources.list(top=2).by_page())
    assert [len(list(one)) for one in pages] == [2, 2, 1]


def test_operations_on_one_resource_do_not_overlap(arm: Arm, client: Any) -> None:
    arm.fail({"kind": "slow", "type": "Microsoft.Network/virtualNetworks", "for_s": 0.4})
    names = ("rg", "Microsoft.Network", "", "virtualNetworks", "net")
    version = {"api_version": "2024-05-01"}
    poller = client.resources.begin_create_or_update(*names, NETWORK, **version)
    for call in (
        lambda: client.resources.begin_create_or_update(*names, NETWORK, **version),
        lambda: client.resources.begin_delete(*names, **version),
    ):
        with pytest.raises(ResourceExistsError) as busy:
            call()
        assert code(busy) == "AnotherOperationInProgress"
    poller.result()
    client.resources.begin_delete(*names, **version).result()


def test_a_template_has_a_hash(arm: Arm, client: Any) -> None:
    del client
    calls: Any = arm.client(DeploymentsMgmtClient).deployments
    one = calls.calculate_template_hash(group_template(a_network()))
    assert one.template_hash.isdigit()
    assert one.template_hash != calls.calculate_template_hash(group_template()).template_hash
    reordered = dict(reversed(group_template(a_network()).items()))
    assert calls.calculate_template_hash(reordered).template_hash == one.template_hash
