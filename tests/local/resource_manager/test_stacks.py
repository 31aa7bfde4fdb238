"""Deployment stacks: what they manage, let go, delete, and forbid to others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceExistsError,
    ResourceNotFoundError,
)
from azure.mgmt.resource.deployments import DeploymentsMgmtClient
from azure.mgmt.resource.deploymentstacks.aio import DeploymentStacksClient as AioStacks
from azure.mgmt.resource.resources import ResourceManagementClient

from tests.local.resource_manager.clients import (
    AioToken,
    AllowHttp,
    Arm,
    Token,
    a_group,
    a_network,
    an_account,
    group_template,
    nested,
    stack_body,
    subscription_template,
)


def filled(*resources: dict[str, Any], group: str = "rg") -> dict[str, Any]:
    return subscription_template(
        a_group(group), nested("fill", group, group_template(*resources))
    )


def put(arm: Arm, *resources: dict[str, Any], name: str = "stack", **options: Any) -> Any:
    body = stack_body(filled(*resources, group=options.pop("group", "rg")), **options)
    return arm.stacks.begin_create_or_update_at_subscription(name, body).result()


def names(arm: Arm) -> set[str]:
    kinds = ("deployments", "deploymentstacks")
    return {one.id.full_name for one in arm.cloud.store.all() if not one.type.endswith(kinds)}


def delete(arm: Arm, name: str = "stack", how: str = "delete") -> None:
    arm.stacks.begin_delete_at_subscription(
        name, unmanage_action_resources=how, unmanage_action_resource_groups=how
    ).result()


def test_a_stack_tells_what_it_manages(arm: Arm) -> None:
    stack = put(arm, a_network(), an_account())
    properties = stack.properties
    assert properties.provisioning_state == "succeeded"
    assert {one.id.rpartition("/")[2] for one in properties.resources} == {
        "rg", "net", "someaccount",
    }  # fmt: skip
    assert {(one.status, one.deny_status) for one in properties.resources} == {
        ("managed", "none")
    }
    assert properties.deployment_id.startswith(f"/subscriptions/{arm.subscription}/providers/")
    assert properties.duration
    assert properties.correlation_id
    assert [one.name for one in arm.stacks.list_at_subscription()] == ["stack"]


def test_what_is_no_longer_declared_is_deleted(arm: Arm) -> None:
    put(arm, a_network(), an_account())
    stack = put(arm, a_network())
    assert names(arm) == {"rg", "net"}
    assert [one.id.rpartition("/")[2] for one in stack.properties.deleted_resources] == [
        "someaccount"
    ]
    assert arm.cloud.accounts.get("someaccount") is None


def test_or_let_go_when_the_stack_says_so(arm: Arm) -> None:
    put(arm, a_network(), an_account())
    stack = put(arm, a_network(), on_unmanage="detach")
    assert names(arm) == {"rg", "net", "someaccount"}
    assert [one.id.rpartition("/")[2] for one in stack.properties.detached_resources] == [
        "someaccount"
    ]


def test_a_deleted_stack_takes_its_resources_along(arm: Arm) -> None:
    put(arm, a_network(), an_account())
    delete(arm)
    assert arm.cloud.store.all() == []
    with pytest.raises(ResourceNotFoundError) as gone:
        arm.stacks.get_at_subscription("stack")
    assert gone.value.error.code == "DeploymentStackNotFound"  # type: ignore[union-attr]


def test_a_detached_stack_leaves_everything(arm: Arm) -> None:
    put(arm, a_network(), an_account())
    delete(arm, how="detach")
    assert names(arm) == {"rg", "net", "someaccount"}
    assert {one.stack for one in arm.cloud.store.all()} == {None}


def test_deleting_a_stack_that_is_not_there_is_no_error(arm: Arm) -> None:
    delete(arm, "never")


def test_repeating_a_stack_changes_nothing(arm: Arm) -> None:
    put(arm, an_account())
    before = {one.key: one.body for one in arm.cloud.store.of_stack(_key(arm))}
    put(arm, an_account())
    after = {one.key: one.body for one in arm.cloud.store.of_stack(_key(arm))}
    kinds = "microsoft.resources/deployments/"
    assert {k: v for k, v in before.items() if kinds not in k} == {
        k: v for k, v in after.items() if kinds not in k
    }


def test_a_second_put_while_one_runs_is_refused(arm: Arm) -> None:
    arm.fail({"kind": "slow", "type": "Microsoft.Storage/storageAccounts", "for_s": 0.5})
    body = stack_body(filled(an_account()))
    first = arm.stacks.begin_create_or_update_at_subscription("stack", body)
    for call in (
        lambda: arm.stacks.begin_create_or_update_at_subscription("stack", body),
        lambda: delete(arm),
    ):
        with pytest.raises(ResourceExistsError) as busy:
            call()
        assert busy.value.error.code == "DeploymentStackInNonTerminalState"  # type: ignore[union-attr]
    assert first.result().properties.provisioning_state == "succeeded"


def test_one_request_without_polling_tells_the_state_and_the_way_on(arm: Arm) -> None:
    arm.fail({"kind": "slow", "type": "Microsoft.Storage/storageAccounts", "for_s": 0.3})
    seen: dict[str, str] = {}

    def keep(answer: Any) -> None:
        seen.update(answer.http_response.headers)

    poller = arm.stacks.begin_create_or_update_at_subscription(
        "stack", stack_body(filled(an_account())), polling=False, raw_response_hook=keep
    )
    assert poller.result().properties.provisioning_state == "creating"
    assert "operationStatuses" in seen["Azure-AsyncOperation"]
    assert seen["Retry-After"] == "0"
    assert arm.stacks.get_at_subscription("stack").properties.provisioning_state in (
        "creating", "deploying",
    )  # fmt: skip


def test_a_stack_does_not_take_another_stacks_resource(arm: Arm) -> None:
    put(arm, an_account())
    with pytest.raises(HttpResponseError, match="ResourceManagedByAnotherStack"):
        put(arm, an_account(), name="thief")
    assert {
        one.stack for one in arm.cloud.store.of_type("Microsoft.Storage/storageAccounts")
    } == {_key(arm)}


def test_validate_says_yes_or_why_not_and_makes_nothing(arm: Arm) -> None:
    fine = arm.stacks.begin_validate_stack_at_subscription(
        "stack", stack_body(filled(an_account()))
    )
    assert fine.result().error is None
    wrong = stack_body(filled(an_account(type="Microsoft.Nothing/here")))
    said = arm.stacks.begin_validate_stack_at_subscription("stack", wrong, polling=False)
    assert said.result().error.code == "InvalidResourceNamespace"
    assert arm.cloud.store.all() == []


@pytest.mark.parametrize(
    "change",
    [
        {"actionOnUnmanage": None},
        {"actionOnUnmanage": {"resources": "burn"}},
        {"actionOnUnmanage": {"resources": "detach", "resourceGroups": "delete"}},
        {"denySettings": None},
        {"denySettings": {"mode": "sometimes"}},
        {"denySettings": {"mode": "none", "excludedPrincipals": list("abcdef")}},
        {"template": None},
        {"templateLink": {"id": "/x"}},
    ],
)
def test_a_wrong_stack_is_refused(arm: Arm, change: dict[str, Any]) -> None:
    body = stack_body(filled(an_account()))
    merged = {**body["properties"], **change}
    body["properties"] = {k: v for k, v in merged.items() if v is not None}
    with pytest.raises(HttpResponseError) as refused:
        arm.stacks.begin_create_or_update_at_subscription("stack", body)
    assert refused.value.status_code == 400
    assert arm.cloud.store.all() == []


async def test_ten_stacks_at_once_by_the_aio_client(arm: Arm) -> None:
    client = AioStacks(
        AioToken(arm.home.secret("token")),
        arm.subscription,
        base_url=arm.url,
        per_call_policies=[AllowHttp()],
        use_env_settings=False,
        polling_interval=0,
        retry_total=0,
    )
    async with client:
        stacks: Any = client.deployment_stacks

        async def make(n: int) -> Any:
            body = stack_body(filled(an_account(f"account{n}"), group=f"rg{n}"))
            poller = await stacks.begin_create_or_update_at_subscription(f"stack{n}", body)
            return await poller.result()

        made = await asyncio.gather(*(make(n) for n in range(10)))
        assert {one.properties.provisioning_state for one in made} == {"succeeded"}
        assert len(arm.cloud.accounts.accounts) == 10  # type: ignore[attr-defined]
        deleted = await stacks.begin_delete_at_subscription(
            "stack3",
            unmanage_action_resources="delete",
            unmanage_action_resource_groups="delete",
        )
        await deleted.result()
        assert len([one async for one in stacks.list_at_subscription()]) == 9


def test_a_blank_token_is_refused(arm: Arm) -> None:
    client = ResourceManagementClient(
        Token(" "),
        arm.subscription,
        base_url=arm.url,
        per_call_policies=[AllowHttp()],
        use_env_settings=False,
        retry_total=0,
    )
    with pytest.raises(ClientAuthenticationError) as refused:
        client.resource_groups.get("rg")
    assert refused.value.error.code == "AuthenticationFailed"  # type: ignore[union-attr]


ACCOUNT = "/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/someaccount"


def _write(arm: Arm, caller: str, target: str = ACCOUNT) -> None:
    resources: Any = arm.client(ResourceManagementClient, caller=caller).resources
    body = {k: v for k, v in an_account().items() if k not in ("type", "apiVersion", "name")}
    resources.begin_create_or_update_by_id(
        f"/subscriptions/{arm.subscription}{target}", body, api_version="2024-01-01"
    ).result()


def _delete(arm: Arm, caller: str, target: str = ACCOUNT) -> None:
    resources: Any = arm.client(ResourceManagementClient, caller=caller).resources
    resources.begin_delete_by_id(
        f"/subscriptions/{arm.subscription}{target}", api_version="2024-01-01"
    ).result()


def denied(call: Any, *arguments: Any) -> bool:
    """Whether a call is refused by a deny setting, and by nothing else."""
    try:
        call(*arguments)
    except HttpResponseError as error:
        code = error.error.code if error.error else None
        return (error.status_code, code) == (403, "DenyAssignmentAuthorizationFailed")
    return False


def test_deny_settings_hold_against_everybody_but_the_excluded(arm: Arm) -> None:
    excluded = [arm.cloud.identities.principal("control-plane")]
    put(arm, an_account(), deny="denyWriteAndDelete", excluded=excluded)
    assert denied(_write, arm, "operator")
    assert denied(_delete, arm, "operator")
    assert not denied(_write, arm, "control-plane")
    stack = put(arm, an_account(), deny="denyDelete", excluded=excluded)
    assert {one.deny_status for one in stack.properties.resources} == {"denyDelete"}
    assert not denied(_write, arm, "operator")
    assert denied(_delete, arm, "operator")
    put(arm, an_account())
    assert not denied(_delete, arm, "operator")


def test_the_group_of_a_denied_resource_cannot_be_deleted_under_it(arm: Arm) -> None:
    put(arm, an_account(), deny="denyDelete")
    groups: Any = arm.client(ResourceManagementClient, caller="operator").resource_groups
    assert denied(groups.begin_delete, "rg")


def test_nor_can_a_group_that_only_holds_it(arm: Arm) -> None:
    arm.groups.create_or_update("byhand", {"location": "francecentral"})
    inside = nested("fill", "byhand", group_template(an_account()), dependsOn=[])
    body = stack_body(subscription_template(inside), deny="denyDelete")
    arm.stacks.begin_create_or_update_at_subscription("stack", body).result()
    groups: Any = arm.client(ResourceManagementClient, caller="operator").resource_groups
    assert denied(groups.begin_delete, "byhand")
    assert not denied(groups.create_or_update, "byhand", {"location": "francecentral"})


def test_children_are_denied_only_where_the_stack_says_so(arm: Arm) -> None:
    child = f"{ACCOUNT}/blobServices/default"
    put(arm, an_account(), deny="denyWriteAndDelete")
    assert not denied(_write, arm, "operator", child)
    put(arm, an_account(), deny="denyWriteAndDelete", children=True)
    assert denied(_write, arm, "operator", child)


def test_a_deployment_of_somebody_else_is_denied_too(arm: Arm) -> None:
    put(arm, an_account(), deny="denyWriteAndDelete")
    deployments: Any = arm.client(DeploymentsMgmtClient, caller="operator").deployments
    body = {"properties": {"mode": "Incremental", "template": group_template(an_account())}}
    with pytest.raises(HttpResponseError, match="DenyAssignmentAuthorizationFailed"):
        deployments.begin_create_or_update("rg", "mine", body).result()


def test_the_stack_itself_is_not_held_up_by_its_deny_settings(arm: Arm) -> None:
    put(arm, an_account(), deny="denyWriteAndDelete")
    put(arm, a_network(), deny="denyWriteAndDelete")
    assert names(arm) == {"rg", "net"}
    delete(arm)
    assert arm.cloud.store.all() == []


def _key(arm: Arm) -> str:
    prefix = (
        f"/subscriptions/{arm.subscription}/providers/Microsoft.Resources/deploymentStacks/"
    )
    return f"{prefix}stack".lower()
