"""What putting a stack would change, let go, delete and forbid; and stacks of a group."""

from __future__ import annotations

from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.mgmt.resource.deploymentstacks import DeploymentStacksClient
from azure.mgmt.resource.deploymentstacks.aio import DeploymentStacksClient as AioStacks

from tests.local.resource_manager.clients import (
    AioToken,
    AllowHttp,
    Arm,
    a_group,
    a_network,
    an_account,
    group_template,
    nested,
    stack_body,
    subscription_template,
)


def filled(*resources: dict[str, Any]) -> dict[str, Any]:
    return subscription_template(a_group(), nested("fill", "rg", group_template(*resources)))


def asked(arm: Arm, *resources: dict[str, Any], **options: Any) -> dict[str, Any]:
    body = stack_body(filled(*resources), **options)
    stack = f"/subscriptions/{arm.subscription}/providers/Microsoft.Resources/deploymentStacks"
    body["properties"] |= {
        "deploymentStackResourceId": f"{stack}/stack",
        "retentionInterval": "P1D",
    }
    return body


def results(arm: Arm) -> Any:
    client: Any = arm.client(DeploymentStacksClient)
    return client.deployment_stacks_what_if_results_at_subscription


def foresee(arm: Arm, *resources: dict[str, Any], **options: Any) -> Any:
    calls = results(arm)
    calls.begin_create_or_update("look", asked(arm, *resources, **options)).result()
    stacks = [one for one in arm.cloud.store.all() if "whatifresults" not in one.type]
    found = calls.begin_what_if("look").result()
    assert [one for one in arm.cloud.store.all() if "whatifresults" not in one.type] == stacks
    assert found.properties.provisioning_state == "succeeded"
    return found.properties.changes


def put(arm: Arm, *resources: dict[str, Any], **options: Any) -> None:
    body = stack_body(filled(*resources), **options)
    arm.stacks.begin_create_or_update_at_subscription("stack", body).result()


def kinds(changes: Any) -> dict[str, str]:
    return {one.id.rpartition("/")[2]: one.change_type for one in changes.resource_changes}


def test_a_stack_that_is_not_there_would_create_everything(arm: Arm) -> None:
    changes = foresee(arm, a_network(), deny="denyDelete")
    assert kinds(changes) == {"rg": "create", "net": "create"}
    net = changes.resource_changes[1]
    assert net.change_certainty == "definite"
    assert (net.management_status_change.before, net.management_status_change.after) == (
        "unmanaged", "managed",
    )  # fmt: skip
    assert (net.deny_status_change.before, net.deny_status_change.after) == (
        "none", "denyDelete",
    )  # fmt: skip
    assert net.resource_configuration_changes.before is None
    assert net.resource_configuration_changes.after["location"] == "francecentral"
    (deny,) = changes.deny_settings_change.delta
    assert (deny.path, deny.change_type, deny.after) == ("mode", "modify", "denyDelete")


def test_a_stack_that_stands_would_change_nothing(arm: Arm) -> None:
    put(arm, a_network(), an_account())
    changes = foresee(arm, a_network(), an_account())
    assert kinds(changes) == {"rg": "noChange", "net": "noChange", "someaccount": "noChange"}
    assert not changes.deny_settings_change.delta


def test_it_tells_what_is_modified_deleted_and_detached(arm: Arm) -> None:
    put(arm, a_network(tags={"a": "1"}), an_account())
    changes = foresee(arm, a_network(tags={"a": "2"}))
    assert kinds(changes) == {"rg": "noChange", "net": "modify", "someaccount": "delete"}
    by_name = {one.id.rpartition("/")[2]: one for one in changes.resource_changes}
    (change,) = by_name["net"].resource_configuration_changes.delta
    assert (change.path, change.change_type, change.before, change.after) == (
        "tags.a", "modify", "1", "2",
    )  # fmt: skip
    gone = by_name["someaccount"].resource_configuration_changes
    assert gone.before["name"] == "someaccount"
    assert gone.after is None
    detached = foresee(arm, a_network(tags={"a": "2"}), on_unmanage="detach")
    assert kinds(detached)["someaccount"] == "detach"
    put(arm, a_network(tags={"a": "2"}))
    assert kinds(foresee(arm, a_network(tags={"a": "2"}))) == {
        "rg": "noChange", "net": "noChange",
    }  # fmt: skip


def test_a_group_that_goes_takes_along_what_others_put_there(arm: Arm) -> None:
    put(arm, a_network())
    arm.resources.begin_create_or_update_by_id(
        f"/subscriptions/{arm.subscription}/resourceGroups/rg/providers/"
        "Microsoft.Network/virtualNetworks/byhand",
        {k: v for k, v in a_network().items() if k in ("location", "properties")},
        api_version="2024-05-01",
    ).result()
    calls = results(arm)
    body = asked(arm)
    body["properties"]["template"] = subscription_template(a_group("other"))
    calls.begin_create_or_update("look", body).result()
    changes = calls.begin_what_if("look").result().properties.changes
    assert kinds(changes) == {
        "other": "create", "rg": "delete", "net": "delete", "byhand": "delete",
    }  # fmt: skip


def test_results_are_kept_listed_and_deleted(arm: Arm) -> None:
    calls = results(arm)
    made = calls.begin_create_or_update("look", asked(arm, a_network())).result()
    assert made.properties.provisioning_state == "succeeded"
    assert made.properties.changes is None
    calls.begin_what_if("look").result()
    assert len(calls.get("look").properties.changes.resource_changes) == 2
    assert [one.name for one in calls.list()] == ["look"]
    assert "template" not in calls.get("look").properties.as_dict()
    calls.delete("look")
    with pytest.raises(ResourceNotFoundError) as gone:
        calls.get("look")
    assert gone.value.error.code == "DeploymentStackWhatIfResultNotFound"  # type: ignore[union-attr]
    calls.delete("look")


def test_results_are_forgotten_after_their_time(arm: Arm) -> None:
    body = asked(arm, a_network())
    body["properties"]["retentionInterval"] = "PT0S"
    calls = results(arm)
    calls.begin_create_or_update("look", body, polling=False)
    with pytest.raises(ResourceNotFoundError):
        calls.get("look")
    assert list(calls.list()) == []


@pytest.mark.parametrize(
    "change",
    [
        {"deploymentStackResourceId": None},
        {"deploymentStackResourceId": "/subscriptions/x/providers/Microsoft.No/a/b"},
        {"retentionInterval": None},
        {"retentionInterval": "a day"},
        {"denySettings": None},
        {"template": None},
    ],
)
def test_a_wrong_question_is_refused(arm: Arm, change: dict[str, Any]) -> None:
    body = asked(arm, a_network())
    merged = {**body["properties"], **change}
    body["properties"] = {k: v for k, v in merged.items() if v is not None}
    with pytest.raises(HttpResponseError) as refused:
        results(arm).begin_create_or_update("look", body)
    assert refused.value.status_code == 400


async def test_the_aio_client_asks_the_same(arm: Arm) -> None:
    client: Any = AioStacks(
        AioToken(arm.home.secret("token")),
        arm.subscription,
        base_url=arm.url,
        per_call_policies=[AllowHttp()],
        use_env_settings=False,
        polling_interval=0,
        retry_total=0,
    )
    async with client:
        calls = client.deployment_stacks_what_if_results_at_subscription
        await (await calls.begin_create_or_update("look", asked(arm, a_network()))).result()
        found = await (await calls.begin_what_if("look")).result()
        stacks = client.deployment_stacks
        checked = await stacks.begin_validate_stack_at_subscription(
            "stack", stack_body(filled(a_network()))
        )
        assert (await checked.result()).error is None
    assert kinds(found.properties.changes) == {"rg": "create", "net": "create"}


def test_a_stack_of_a_group_manages_what_is_in_it(arm: Arm) -> None:
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    body = stack_body(group_template(a_network(), an_account()))
    del body["location"]
    stacks = arm.stacks
    assert (
        stacks.begin_validate_stack_at_resource_group("rg", "mine", body).result().error is None
    )
    made = stacks.begin_create_or_update_at_resource_group("rg", "mine", body).result()
    names = {one.id.rpartition("/")[2] for one in made.properties.resources}
    assert names == {"net", "someaccount"}
    assert [one.name for one in stacks.list_at_resource_group("rg")] == ["mine"]
    assert list(stacks.list_at_subscription()) == []
    client: Any = arm.client(DeploymentStacksClient)
    calls = client.deployment_stacks_what_if_results_at_resource_group
    less = stack_body(group_template(a_network()))
    less["properties"] |= {"deploymentStackResourceId": made.id, "retentionInterval": "P1D"}
    calls.begin_create_or_update("rg", "look", less).result()
    found = calls.begin_what_if("rg", "look").result()
    assert kinds(found.properties.changes) == {"net": "noChange", "someaccount": "delete"}
    stacks.begin_create_or_update_at_resource_group(
        "rg", "mine", stack_body(group_template(a_network()))
    ).result()
    assert arm.cloud.accounts.get("someaccount") is None
    stacks.begin_delete_at_resource_group(
        "rg", "mine", unmanage_action_resources="delete"
    ).result()
    left = {one.id.name for one in arm.cloud.store.all() if "whatif" not in one.type}
    assert left == {"rg"}


def test_a_stack_of_the_subscription_can_deploy_into_one_group(arm: Arm) -> None:
    arm.groups.create_or_update("rg", {"location": "francecentral"})
    body = stack_body(group_template(a_network()))
    scope = f"/subscriptions/{arm.subscription}/resourceGroups/rg"
    body["properties"]["deploymentScope"] = scope
    made = arm.stacks.begin_create_or_update_at_subscription("stack", body).result()
    assert made.properties.deployment_scope == scope
    assert [one.id for one in made.properties.resources] == [
        f"{scope}/providers/Microsoft.Network/virtualNetworks/net"
    ]
    body["properties"]["deploymentScope"] = f"{scope}none"
    with pytest.raises(HttpResponseError, match="ResourceGroupNotFound"):
        arm.stacks.begin_create_or_update_at_subscription("stack2", body)


def test_validation_tells_what_it_looked_at(arm: Arm) -> None:
    said = arm.stacks.begin_validate_stack_at_subscription(
        "stack", stack_body(filled(a_network()))
    ).result()
    names = {one.id.rpartition("/")[2] for one in said.properties.validated_resources}
    assert names == {"rg", "fill"}
    assert said.properties.deny_settings.mode == "none"


def test_the_template_of_a_stack_can_be_exported(arm: Arm) -> None:
    put(arm, a_network())
    said = arm.stacks.export_template_at_subscription("stack")
    assert said.template["resources"][0]["name"] == "rg"
