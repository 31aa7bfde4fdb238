"""Deployments as things: their operations, templates, cancelling, conflicts and lists."""

from __future__ import annotations

import time
from typing import Any

import pytest
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.mgmt.resource.deployments import DeploymentsMgmtClient

from tests.local.resource_manager.clients import (
    Arm,
    a_group,
    a_network,
    an_account,
    group_template,
    nested,
    subscription_template,
)

SLOW = {"kind": "slow", "type": "Microsoft.Storage/storageAccounts", "for_s": 0.4}


def body(*resources: dict[str, Any], **parts: Any) -> dict[str, Any]:
    return {
        "properties": {"mode": "Incremental", "template": group_template(*resources, **parts)}
    }


def begin(arm: Arm, *resources: dict[str, Any], name: str = "d") -> Any:
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    return arm.deployments.begin_create_or_update("rg", name, body(*resources))


def state(arm: Arm, name: str = "d") -> str:
    return arm.deployments.get("rg", name).properties.provisioning_state


def wait_for(arm: Arm, wanted: str) -> None:
    until = time.monotonic() + 10
    while state(arm) != wanted:
        assert time.monotonic() < until
    assert state(arm) == wanted


def code(error: pytest.ExceptionInfo[Any]) -> str:
    return error.value.error.code


def test_a_cancelled_deployment_begins_nothing_more(arm: Arm) -> None:
    arm.fail(SLOW)
    poller = begin(arm, an_account(), a_network(dependsOn=["someaccount"]))
    wait_for(arm, "Running")
    arm.deployments.cancel("rg", "d")
    assert state(arm) == "Canceled"
    with pytest.raises(HttpResponseError) as canceled:
        poller.result()
    assert canceled.value.status_code == 200
    assert state(arm) == "Canceled"
    names = {one.id.name for one in arm.cloud.store.all()}
    assert names == {"rg", "d", "someaccount"}, "what ran has ended, what waited was not made"
    begin(arm, a_network()).result()
    assert state(arm) == "Succeeded"


def test_only_what_runs_can_be_cancelled(arm: Arm) -> None:
    with pytest.raises(ResourceNotFoundError) as missing:
        arm.deployments.cancel("rg", "d")
    assert code(missing) == "DeploymentNotFound"
    begin(arm, a_network()).result()
    with pytest.raises(ResourceExistsError) as ended:
        arm.deployments.cancel("rg", "d")
    assert code(ended) == "DeploymentCannotBeCancelled"


def test_a_running_deployment_is_not_replaced_or_deleted(arm: Arm) -> None:
    arm.fail(SLOW)
    poller = begin(arm, an_account())
    for call in (
        lambda: begin(arm, a_network()),
        lambda: arm.deployments.begin_delete("rg", "d"),
    ):
        with pytest.raises(ResourceExistsError) as active:
            call()
        assert code(active) == "DeploymentActive"
    poller.result()


def test_each_resource_of_a_deployment_is_an_operation(arm: Arm) -> None:
    client: Any = arm.client(DeploymentsMgmtClient)
    begin(
        arm, an_account(), nested("n", "rg", group_template(a_network()), dependsOn=[])
    ).result()
    found = list(client.deployment_operations.list("rg", "d"))
    told = {
        (one.properties.target_resource.resource_type.rpartition("/")[2],
         one.properties.provisioning_state, one.properties.status_code)
        for one in found if one.properties.target_resource
    }  # fmt: skip
    assert told == {("storageAccounts", "Succeeded", "OK"), ("deployments", "Succeeded", "OK")}
    assert found[-1].properties.provisioning_operation == "EvaluateDeploymentOutput"
    one = client.deployment_operations.get("rg", "d", found[0].operation_id)
    assert one.properties.target_resource.id == found[0].properties.target_resource.id
    (inner, _) = client.deployment_operations.list("rg", "n")
    assert inner.properties.target_resource.resource_name == "net"
    with pytest.raises(ResourceNotFoundError):
        client.deployment_operations.get("rg", "d", "none")


def test_an_operation_that_failed_says_why(arm: Arm) -> None:
    client: Any = arm.client(DeploymentsMgmtClient)
    arm.fail({"kind": "resource", "type": "Microsoft.Network/virtualNetworks",
              "code": "SubnetConflict", "status": 409})  # fmt: skip
    with pytest.raises(HttpResponseError):
        begin(arm, an_account(), a_network(dependsOn=["someaccount"])).result()
    made, failed = client.deployment_operations.list("rg", "d")
    assert made.properties.provisioning_state == "Succeeded"
    assert failed.properties.provisioning_state == "Failed"
    assert failed.properties.status_code == "Conflict"
    assert failed.properties.status_message.error.code == "SubnetConflict"
    assert arm.deployments.get("rg", "d").properties.error.code == "DeploymentFailed"


def test_a_template_can_be_had_back(arm: Arm) -> None:
    template = body(a_network(), parameters={"p": {"type": "string", "defaultValue": "x"}})
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    arm.deployments.begin_create_or_update("rg", "d", template).result()
    assert (
        arm.deployments.export_template("rg", "d").template
        == template["properties"]["template"]
    )


def test_a_group_can_be_exported_and_deployed_again(arm: Arm) -> None:
    child = {
        "type": "Microsoft.Storage/storageAccounts/blobServices",
        "apiVersion": "2024-01-01",
        "name": "someaccount/default",
        "dependsOn": ["someaccount"],
        "properties": {},
    }
    begin(arm, an_account(tags={"a": "b"}), child, a_network()).result()
    everything = {"resources": ["*"], "options": "SkipAllParameterization"}
    template = arm.groups.begin_export_template("rg", everything).result().template
    asked = {"properties": {"mode": "Incremental", "template": template}}
    found = arm.deployments.begin_what_if("rg", "d", asked).result().properties.changes
    assert {one.change_type for one in found} == {"NoChange"}
    assert len(found) == 3


def test_validation_tells_what_would_be_made(arm: Arm) -> None:
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    secret = {"word": {"type": "securestring", "defaultValue": "hidden"}}
    said = arm.deployments.begin_validate(
        "rg", "d", body(an_account(), a_network(dependsOn=["someaccount"]), parameters=secret)
    ).result()
    names = [one.id.rpartition("/")[2] for one in said.properties.validated_resources]
    assert names == ["someaccount", "net"]
    (dependency,) = said.properties.dependencies
    assert dependency.resource_name == "net"
    assert [one.resource_name for one in dependency.depends_on] == ["someaccount"]
    assert {one.namespace for one in said.properties.providers} == {
        "Microsoft.Storage", "Microsoft.Network",
    }  # fmt: skip
    assert said.properties.parameters == {"word": {"type": "securestring"}}
    assert arm.cloud.store.all()[0].id.name == "rg"
    assert len(arm.cloud.store.all()) == 1
    wrong = body(an_account(location="atlantis"))
    answer = arm.deployments.begin_validate("rg", "d", wrong, polling=False).result()
    assert answer.error.code == "LocationNotAvailableForResourceType"


def test_deployments_are_listed_by_state_and_page(arm: Arm) -> None:
    for number in range(3):
        begin(arm, a_network(), name=f"d{number}").result()
    arm.fail({"kind": "resource", "type": "Microsoft.Storage/storageAccounts", "code": "No"})
    with pytest.raises(HttpResponseError):
        begin(arm, an_account(), name="broken").result()
    calls = arm.deployments
    failed = calls.list_by_resource_group("rg", filter="provisioningState eq 'Failed'")
    assert [one.name for one in failed] == ["broken"]
    paged = [one.name for one in calls.list_by_resource_group("rg", top=2)]
    assert sorted(paged) == ["broken", "d0", "d1", "d2"]
    with pytest.raises(HttpResponseError, match="InvalidFilterInQueryString"):
        list(calls.list_by_resource_group("rg", filter="name eq 'd0'"))


def test_a_group_that_is_being_deleted_takes_nothing_more(arm: Arm) -> None:
    begin(arm, an_account()).result()
    arm.fail({**SLOW, "action": "delete"})
    first, second = arm.groups.begin_delete("rg"), arm.groups.begin_delete("rg")
    for call in (
        lambda: arm.deployments.begin_create_or_update("rg", "e", body(a_network())),
        lambda: arm.groups.create_or_update("rg", {"location": "francecentral"}),
        lambda: arm.groups.update("rg", {"tags": {"a": "b"}}),
        lambda: arm.deployments.begin_what_if("rg", "e", body(a_network())),
    ):
        with pytest.raises(ResourceExistsError) as deleting:
            call()
        assert code(deleting) == "ResourceGroupBeingDeleted"
    first.result()
    second.result()
    assert arm.cloud.store.all() == []


def test_a_subscription_deployment_keeps_its_place(arm: Arm) -> None:
    calls = arm.deployments

    def asked(place: str) -> dict[str, Any]:
        template = subscription_template(a_group())
        return {"location": place, "properties": {"mode": "Incremental", "template": template}}

    calls.begin_create_or_update_at_subscription_scope("d", asked("francecentral")).result()
    with pytest.raises(ResourceExistsError) as moved:
        calls.begin_create_or_update_at_subscription_scope("d", asked("uksouth"))
    assert code(moved) == "InvalidDeploymentLocation"


def test_a_deployment_and_what_is_nested_in_it_have_one_correlation_id(arm: Arm) -> None:
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    inner = nested("inner", "rg", group_template())
    del inner["dependsOn"]
    body = {"properties": {"mode": "Incremental", "template": group_template(inner)}}
    ids: set[str] = set()
    for _ in range(2):
        made = arm.deployments.begin_create_or_update("rg", "outer", body).result()
        ids.add(made.properties.correlation_id)
        below = arm.deployments.get("rg", "inner")
        assert below.properties.correlation_id == made.properties.correlation_id
    assert len(ids - {None}) == 2
