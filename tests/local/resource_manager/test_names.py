"""What a subscription knows by name: tags defined ahead, namespaces, versions of types."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.resource.resources import ResourceManagementClient

from tests.local.resource_manager.clients import Arm, a_network, group_template, innermost


def in_use(arm: Arm) -> dict[str, dict[str, int]]:
    return {
        one.tag_name: {value.tag_value: int(value.count.value) for value in one["values"]}
        for one in arm.tags.list()
    }


def test_tags_are_defined_ahead_used_and_forgotten(arm: Arm) -> None:
    tags = arm.tags
    assert tags.create_or_update("Cost").tag_name == "Cost"
    assert tags.create_or_update_value("cost", "north").tag_value == "north"
    assert in_use(arm) == {"Cost": {"north": 0}}
    arm.groups.create_or_update("rg", {"location": "francecentral", "tags": {"cost": "south"}})
    assert in_use(arm) == {"Cost": {"north": 0, "south": 1}}
    for kept in (lambda: tags.delete_value("cost", "south"), lambda: tags.delete("cost")):
        with pytest.raises(HttpResponseError) as refused:
            kept()
        assert refused.value.status_code == 409
    tags.delete_value("cost", "north")
    assert in_use(arm) == {"Cost": {"south": 1}}
    arm.groups.begin_delete("rg").result()
    tags.delete("cost")
    tags.delete("cost")
    assert in_use(arm) == {}
    with pytest.raises(HttpResponseError) as missing:
        tags.create_or_update_value("nobody", "x")
    assert missing.value.status_code == 404


def test_a_namespace_that_was_unregistered_makes_nothing_until_it_is_registered(
    arm: Arm,
) -> None:
    providers = arm.client(ResourceManagementClient).providers
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    body = {"properties": {"mode": "Incremental", "template": group_template(a_network())}}
    assert providers.unregister("Microsoft.Network").registration_state == "Unregistered"
    assert providers.get("Microsoft.Network").registration_state == "Unregistered"
    with pytest.raises(HttpResponseError) as refused:
        arm.deployments.begin_create_or_update("rg", "d", body).result()
    assert innermost(refused.value) == "MissingSubscriptionRegistration"
    assert refused.value.status_code == 409
    assert providers.register("Microsoft.Network").registration_state == "Registered"
    arm.deployments.begin_create_or_update("rg", "d", body).result()
    with pytest.raises(HttpResponseError) as used:
        providers.unregister("Microsoft.Network")
    assert used.value.status_code == 409


def test_a_version_of_a_sibling_type_is_refused(arm: Arm) -> None:
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    old = {"apiVersion": "2016-03-30"}
    gateway = {**a_network("gate"), "type": "Microsoft.Network/natGateways", **old}
    template = group_template(a_network(**old), gateway)
    with pytest.raises(HttpResponseError) as refused:
        arm.deployments.begin_create_or_update(
            "rg", "d", {"properties": {"mode": "Incremental", "template": template}}
        ).result()
    assert innermost(refused.value) == "NoRegisteredProviderFound"
    assert "type 'natGateways'" in str(refused.value)
    assert "2018-10-01, 2019-02-01" in str(refused.value)


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_management_groups_are_refused_in_plain_words(arm: Arm, method: str) -> None:
    path = "/providers/Microsoft.Management/managementGroups/top"
    body: Any = {"properties": {"template": group_template()}}
    request = urllib.request.Request(  # noqa: S310 — a loopback address
        f"{arm.url}{path}/providers/Microsoft.Resources/deployments/d?api-version=2025-04-01",
        method=method,
        data=json.dumps(body).encode() if method == "PUT" else None,
        headers={"Authorization": f"Bearer {arm.home.secret('token')}"},
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)  # noqa: S310 — as above
    said = json.loads(refused.value.read())["error"]
    assert said["code"] == "OperationNotSupported"
    assert "no management groups" in said["message"]
