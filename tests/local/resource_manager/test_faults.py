"""Every row of the table of errors, on demand, as the unmodified client shows it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from azure.core.exceptions import (
    HttpResponseError,
    ResourceExistsError,
    ServiceRequestError,
    ServiceResponseError,
)
from azure.mgmt.resource.deploymentstacks import DeploymentStacksClient
from azure.mgmt.resource.resources import ResourceManagementClient

from tests.local.resource_manager.clients import (
    Arm,
    a_group,
    a_network,
    an_account,
    group_template,
    innermost,
    nested,
    stack_body,
    subscription_template,
)

PUT_STACK = {"method": "PUT", "path": "/deploymentStacks/"}


def put(arm: Arm, **options: Any) -> Any:
    template = subscription_template(
        a_group(), nested("fill", "rg", group_template(a_network(), an_account()))
    )
    stacks: Any = arm.client(DeploymentStacksClient, **options).deployment_stacks
    poller = stacks.begin_create_or_update_at_subscription("stack", stack_body(template))
    return poller.result()


def state(arm: Arm) -> str:
    return arm.stacks.get_at_subscription("stack").properties.provisioning_state


def test_throttling_sleeps_inside_the_client_and_then_works(arm: Arm) -> None:
    throttled = {"kind": "answer", "status": 429, "times": 2, "headers": {"Retry-After": "0"}}
    arm.fail({**PUT_STACK, **throttled})
    assert put(arm, retry_total=3).properties.provisioning_state == "succeeded"


def test_throttling_without_retries_says_when_to_come_back(arm: Arm) -> None:
    arm.fail({**PUT_STACK, "kind": "answer", "status": 429, "code": "TooManyRequests",
              "headers": {"Retry-After": "17"}})  # fmt: skip
    with pytest.raises(HttpResponseError) as refused:
        put(arm)
    assert refused.value.status_code == 429
    assert refused.value.response.headers["Retry-After"] == "17"  # type: ignore[union-attr]
    assert refused.value.error.code == "TooManyRequests"  # type: ignore[union-attr]


def test_an_answer_in_html_breaks_the_stacks_client(arm: Arm) -> None:
    arm.fail({**PUT_STACK, "kind": "answer", "status": 503, "text": "<html>busy</html>"})
    with pytest.raises(json.JSONDecodeError):
        put(arm)


def test_the_same_answer_is_an_ordinary_error_of_the_other_clients(arm: Arm) -> None:
    arm.fail({"kind": "answer", "method": "GET", "path": "/resourcegroups/", "status": 502,
              "text": "<html>busy</html>"})  # fmt: skip
    groups = arm.client(ResourceManagementClient).resource_groups
    with pytest.raises(HttpResponseError):
        groups.get("rg")


def test_a_conflict_has_its_code(arm: Arm) -> None:
    arm.fail({**PUT_STACK, "kind": "answer", "status": 409,
              "code": "MissingSubscriptionRegistration"})  # fmt: skip
    with pytest.raises(ResourceExistsError) as refused:
        put(arm)
    assert refused.value.error.code == "MissingSubscriptionRegistration"  # type: ignore[union-attr]


def test_an_operation_that_fails_is_an_error_with_status_200(arm: Arm) -> None:
    arm.fail({**PUT_STACK, "kind": "operation", "code": "SkuNotAvailable"})
    with pytest.raises(HttpResponseError) as failed:
        put(arm)
    assert failed.value.status_code == 200
    assert failed.value.error.code == "DeploymentStackDeploymentFailed"  # type: ignore[union-attr]
    assert innermost(failed.value) == "SkuNotAvailable"
    assert state(arm) == "failed"
    assert put(arm).properties.provisioning_state == "succeeded"


def test_an_operation_that_is_canceled_has_no_error(arm: Arm) -> None:
    arm.fail({**PUT_STACK, "kind": "operation", "status": "Canceled"})
    with pytest.raises(HttpResponseError) as canceled:
        put(arm)
    assert canceled.value.status_code == 200
    assert canceled.value.error is None
    assert state(arm) == "canceled"


def test_a_failing_resource_is_the_cause_inside(arm: Arm) -> None:
    arm.fail({"kind": "resource", "type": "Microsoft.Storage/storageAccounts",
              "code": "ServerIsBusy", "message": "come back"})  # fmt: skip
    with pytest.raises(HttpResponseError) as failed:
        put(arm)
    assert innermost(failed.value) == "ServerIsBusy"
    stack = arm.stacks.get_at_subscription("stack")
    assert {one.id.rpartition("/")[2] for one in stack.properties.failed_resources} == {
        "someaccount", "fill",
    }  # fmt: skip


def test_a_resource_that_cannot_be_deleted_keeps_the_stack(arm: Arm) -> None:
    put(arm)
    arm.fail({"kind": "resource", "type": "Microsoft.Storage/storageAccounts",
              "action": "delete", "code": "Conflict"})  # fmt: skip
    options = {
        "unmanage_action_resources": "delete",
        "unmanage_action_resource_groups": "delete",
    }
    with pytest.raises(HttpResponseError):
        arm.stacks.begin_delete_at_subscription("stack", **options).result()
    assert state(arm) == "failed"
    arm.stacks.begin_delete_at_subscription("stack", **options).result()
    assert arm.cloud.store.all() == []


def test_a_lost_answer_hides_an_effect(arm: Arm) -> None:
    arm.fail({**PUT_STACK, "kind": "lose"})
    with pytest.raises(ServiceResponseError):
        put(arm)
    assert state(arm) in ("creating", "deploying", "succeeded")


def test_a_cut_connection_had_no_effect(arm: Arm) -> None:
    arm.fail({**PUT_STACK, "kind": "drop"})
    with pytest.raises(ServiceResponseError):
        put(arm)
    assert arm.cloud.store.all() == []


def test_nobody_listens_for_a_while(arm: Arm) -> None:
    arm.fail({**PUT_STACK, "kind": "refuse", "for_s": 0.3})
    with pytest.raises(ServiceResponseError):
        put(arm)
    with pytest.raises(ServiceRequestError):
        put(arm)
    options = {"retry_total": 10, "retry_backoff_factor": 0.1, "retry_connect": 10}
    assert put(arm, **options).properties.provisioning_state == "succeeded"


def test_a_broken_fault_file_is_no_fault(arm: Arm) -> None:
    arm.home.path("resource_manager", "faults.json").write_text("{")
    assert put(arm).properties.provisioning_state == "succeeded"
