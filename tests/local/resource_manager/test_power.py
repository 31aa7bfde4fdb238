"""Scale sets and database servers that are stopped and started: states, refusals, restarts."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from tests.local.resource_manager.clients import (
    Arm,
    a_cluster,
    infra,
    innermost,
    space_parameters,
    stack_body,
)

STACK = "s-abcdefghij-1"
GROUP = f"/resourceGroups/rg-kx-{STACK}/providers"
SET = f"{GROUP}/Microsoft.Compute/virtualMachineScaleSets/vmss-{STACK}"
SERVER = f"{GROUP}/Microsoft.DBforPostgreSQL/flexibleServers/pg-{STACK}"
VERSIONS = {SET: "2024-07-01", SERVER: "2024-08-01"}


def call(
    arm: Arm, method: str, path: str, body: Any = None, query: str = ""
) -> tuple[int, Any, dict[str, str]]:
    version = next(one for start, one in VERSIONS.items() if path.startswith(start))
    url = (
        path if path.startswith("http") else f"{arm.url}/subscriptions/{arm.subscription}{path}"
    )
    request = urllib.request.Request(  # noqa: S310 — a loopback address
        f"{url}?api-version={version}{query}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {arm.home.secret('token')}"},
    )
    try:
        with urllib.request.urlopen(request) as answer:  # noqa: S310 — as above
            return answer.status, json.loads(answer.read() or b"null"), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read()), dict(error.headers)


def act(arm: Arm, path: str, verb: str) -> dict[str, Any]:
    """An action to its end: the final status document."""
    status, _, headers = call(arm, "POST", f"{path}/{verb}")
    assert status == 202
    assert headers["Location"]
    while True:
        request = urllib.request.Request(  # noqa: S310 — a loopback address
            headers["Azure-AsyncOperation"],
            headers={"Authorization": f"Bearer {arm.home.secret('token')}"},
        )
        with urllib.request.urlopen(request) as answer:  # noqa: S310 — as above
            told = json.load(answer)
        if told["status"] != "Running":
            return told


@pytest.fixture
def space(arm: Arm) -> Arm:
    a_cluster(arm)
    body = stack_body(infra("space.json"), space_parameters())
    arm.stacks.begin_create_or_update_at_subscription(STACK, body).result()
    return arm


def powers(arm: Arm) -> dict[str, int]:
    view = call(arm, "GET", f"{SET}/instanceView")[1]
    return {one["code"]: one["count"] for one in view["virtualMachine"]["statusesSummary"]}


def state(arm: Arm) -> str:
    return call(arm, "GET", SERVER)[1]["properties"]["state"]


def test_a_scale_set_is_deallocated_until_it_is_started(space: Arm) -> None:
    cloud: Any = space.cloud
    assert powers(space) == {"PowerState/running": 2, "ProvisioningState/succeeded": 2}
    assert act(space, SET, "deallocate")["status"] == "Succeeded"
    assert powers(space) == {"PowerState/deallocated": 2, "ProvisioningState/succeeded": 2}
    assert act(space, SET, "deallocate")["status"] == "Succeeded"
    name = f"vmss-{STACK}_0"
    one = call(space, "GET", f"{SET}/virtualMachines/{name}/instanceView")[1]
    assert [said["code"] for said in one["statuses"]][1] == "PowerState/deallocated"
    assert cloud.compute.sets[f"vmss-{STACK}"].running is False
    assert act(space, SET, "powerOff")["status"] == "Succeeded"
    assert "PowerState/stopped" in powers(space)
    assert act(space, SET, "start")["status"] == "Succeeded"
    assert powers(space)["PowerState/running"] == 2
    assert act(space, SET, "restart")["status"] == "Succeeded"
    assert cloud.compute.restarted == [f"vmss-{STACK}"]


def test_a_deployment_leaves_a_deallocated_scale_set_without_processes(space: Arm) -> None:
    cloud: Any = space.cloud
    act(space, SET, "deallocate")
    body = stack_body(infra("space.json"), space_parameters(plan="premium"))
    space.stacks.begin_create_or_update_at_subscription(STACK, body).result()
    wanted = cloud.compute.sets[f"vmss-{STACK}"]
    assert (wanted.capacity, wanted.running) == (3, False)
    assert powers(space)["PowerState/deallocated"] == 3
    act(space, SET, "start")
    assert powers(space)["PowerState/running"] == 3


def test_single_instances_are_not_stopped_and_what_is_stopped_is_not_restarted(
    space: Arm,
) -> None:
    status, said, _ = call(space, "POST", f"{SET}/deallocate", {"instanceIds": ["1"]})
    assert (status, said["error"]["code"]) == (409, "OperationNotAllowed")
    act(space, SET, "deallocate")
    assert act(space, SET, "restart")["error"]["code"] == "OperationNotAllowed"
    assert call(space, "GET", SET)[1]["properties"]["provisioningState"] == "Succeeded"


def test_instances_show_their_view_to_those_who_ask(space: Arm) -> None:
    items = call(space, "GET", f"{SET}/virtualMachines")[1]["value"]
    assert not any("instanceView" in one["properties"] for one in items)
    items = call(space, "GET", f"{SET}/virtualMachines", query="&$expand=instanceView")[1]
    codes = [one["properties"]["instanceView"]["statuses"][1]["code"] for one in items["value"]]
    assert codes == ["PowerState/running"] * 2


def test_a_server_is_stopped_and_started_and_says_so(space: Arm) -> None:
    cloud: Any = space.cloud
    server = cloud.databases.servers[f"pg-{STACK}"]
    assert state(space) == "Ready"
    assert act(space, SERVER, "start")["error"]["code"] == "ServerIsNotReady"
    assert act(space, SERVER, "stop")["status"] == "Succeeded"
    assert (state(space), server.running) == ("Stopped", False)
    for verb in ("stop", "restart"):
        told = act(space, SERVER, verb)["error"]
        assert told["code"] == "ServerIsNotReady"
        assert "Current Server State = Stopped" in told["message"]
    assert act(space, SERVER, "start")["status"] == "Succeeded"
    assert (state(space), server.running) == ("Ready", True)
    assert act(space, SERVER, "restart")["status"] == "Succeeded"
    assert state(space) == "Ready"


def test_a_stopped_server_takes_no_changes_and_can_be_deleted(space: Arm) -> None:
    act(space, SERVER, "stop")
    for method, path in (
        ("PATCH", SERVER),
        ("PUT", f"{SERVER}/databases/app"),
        ("PUT", f"{SERVER}/configurations/work_mem"),
    ):
        body = {"properties": {}, "tags": {"a": "b"}}
        status, said, _ = call(space, method, path, body)
        assert (status, said["error"]["code"]) == (400, "ServerStoppedError"), path
    assert call(space, "GET", f"{SERVER}/configurations")[1]["error"]["code"] == (
        "ServerStoppedError"
    )
    body = stack_body(infra("space.json"), space_parameters())
    with pytest.raises(HttpResponseError) as refused:
        space.stacks.begin_create_or_update_at_subscription(STACK, body).result()
    assert innermost(refused.value) == "ServerStoppedError"
    cloud: Any = space.cloud
    assert cloud.databases.servers[f"pg-{STACK}"].running is False
    space.stacks.begin_delete_at_subscription(
        STACK, unmanage_action_resources="delete", unmanage_action_resource_groups="delete"
    ).result()
    assert cloud.databases.servers == {}


def test_what_rests_still_rests_after_a_repair(space: Arm) -> None:
    cloud: Any = space.cloud
    act(space, SERVER, "stop")
    act(space, SET, "deallocate")
    for verb in ("stop", "repair"):
        request = urllib.request.Request(  # noqa: S310 — a loopback address
            f"{space.url}/_local/{verb}",
            method="POST",
            headers={"Authorization": f"Bearer {space.home.secret('token')}"},
        )
        with urllib.request.urlopen(request) as answer:  # noqa: S310 — as above
            told = json.load(answer)
    assert cloud.databases.servers[f"pg-{STACK}"].running is False
    assert cloud.compute.sets[f"vmss-{STACK}"].running is False
    assert {(one["running"], one["power"]) for one in told["items"]} == {
        (False, "stopped"),
        (False, "deallocated"),
    }


def test_an_action_that_failed_is_known_and_can_be_repeated(space: Arm) -> None:
    kind = "Microsoft.DBforPostgreSQL/flexibleServers"
    space.fail({"kind": "resource", "type": kind, "action": "stop", "code": "InternalError"})
    assert act(space, SERVER, "stop")["error"]["code"] == "InternalError"
    assert state(space) == "Stopping"
    assert call(space, "GET", SERVER)[1]["properties"]["provisioningState"] == "Failed"
    assert act(space, SERVER, "stop")["status"] == "Succeeded"
    assert state(space) == "Stopped"


def test_an_unknown_action_is_refused(space: Arm) -> None:
    status, said, _ = call(space, "POST", f"{SET}/explode")
    assert (status, said["error"]["code"]) == (404, "InvalidResourceOperation")
