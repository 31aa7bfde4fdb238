"""What a misbehaving Resource Manager makes the client raise, and what that means."""

from __future__ import annotations

import asyncio
import contextlib
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from spaces.adapters.arm import AllowHttp
from spaces.errors import (
    ConflictError,
    DeniedError,
    InvalidError,
    KpaxError,
    QuotaError,
    ThrottledError,
    TransientError,
    UnknownError,
)
from spaces.ports import Instance, StackState
from tests.conformance.arm_rig import (
    SUBSCRIPTION,
    RealRig,
    a_request,
    adapter,
    ended,
    start,
)
from tests.conformance.scripted import Reply, scripted

if TYPE_CHECKING:
    from spaces.adapters.wire import Wire
    from tests.conformance.parts import Parts


@pytest.mark.stack
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (
            {"status": 429, "headers": {"Retry-After": "7"}, "code": "TooManyRequests"},
            ThrottledError,
        ),
        ({"status": 500, "text": "<html>no</html>"}, UnknownError),
        ({"status": 503, "code": "ServiceUnavailable"}, UnknownError),
        ({"status": 409, "code": "DeploymentStackInNonTerminalState"}, ConflictError),
        ({"status": 409, "code": "QuotaExceeded"}, QuotaError),
        ({"status": 403, "code": "AuthorizationFailed"}, DeniedError),
        ({"status": 400, "code": "InvalidTemplate"}, InvalidError),
    ],
    ids=["throttled", "not json", "unavailable", "busy", "quota", "forbidden", "invalid"],
)
async def test_each_refusal_of_a_put_has_one_meaning(
    real_arm: RealRig, unique: str, fault: dict[str, object], expected: type[KpaxError]
) -> None:
    request = a_request(unique)
    real_arm.fault(kind="answer", method="PUT", path=f"/{request.name}", **fault)
    with pytest.raises(expected) as refusal:
        await real_arm.arm.put_stack(request)
    if isinstance(refusal.value, ThrottledError):
        assert refusal.value.retry_after_s == 7
    assert (await real_arm.arm.get_stack(request.name)).state is StackState.ABSENT


@pytest.mark.stack
async def test_after_a_lost_answer_the_stack_is_found_by_name(
    real_arm: RealRig, unique: str
) -> None:
    request = a_request(unique)
    real_arm.fault(kind="lose", method="PUT", path=f"/{request.name}")
    # aiohttp itself repeats a PUT whose connection was an old one; then it meets its own stack
    with contextlib.suppress(UnknownError, ConflictError):
        await real_arm.arm.put_stack(request)
    assert (await ended(real_arm, request.name)).state is StackState.SUCCEEDED


@pytest.mark.stack
async def test_a_failing_look_says_nothing_of_the_stack(real_arm: RealRig, unique: str) -> None:
    name = f"s-{unique}-1"
    real_arm.fault(
        kind="answer", method="GET", path=f"/{name}", status=500, text="<html>no</html>"
    )
    with pytest.raises(TransientError):
        await real_arm.arm.get_stack(name)
    real_arm.fault(
        kind="answer", method="GET", path=f"/{name}", status=404, code="SubscriptionNotFound"
    )
    with pytest.raises(UnknownError):
        await real_arm.arm.get_stack(name)


@pytest.mark.stack
async def test_a_blank_token_is_denied(parts: Parts, wire: Wire, unique: str) -> None:
    endpoint = await asyncio.to_thread(start, parts)
    arm = adapter(wire, endpoint, token=" ", subscription=SUBSCRIPTION)
    with pytest.raises(DeniedError):
        await arm.get_stack(unique)
    await arm.close()


async def test_a_resource_manager_that_does_not_answer_was_sent_nothing(
    wire: Wire, unused_port: int, unique: str
) -> None:
    arm = adapter(wire, f"http://127.0.0.1:{unused_port}", token="t", subscription=SUBSCRIPTION)
    for call in (
        arm.put_stack(a_request(unique)),
        arm.get_stack(unique),
        arm.delete_stack(unique),
        arm.instances("rg", "vmss"),
    ):
        with pytest.raises(TransientError):
            await call
    await arm.close()


async def test_a_cut_connection_leaves_a_put_unknown_and_a_look_to_be_repeated(
    wire: Wire, unique: str
) -> None:
    async with scripted() as server:
        server.will(Reply(cut=True))
        arm = adapter(wire, server.url, token="t", subscription=SUBSCRIPTION)
        with pytest.raises(UnknownError):
            await arm.put_stack(a_request(unique))
        with pytest.raises(UnknownError):
            await arm.delete_stack(unique)
        with pytest.raises(TransientError):
            await arm.get_stack(unique)
        await arm.close()


async def test_machines_are_read_page_by_page_with_their_zone_state_and_limits(
    wire: Wire,
) -> None:
    async with scripted() as server:
        arm = adapter(wire, server.url, token="the-token", subscription=SUBSCRIPTION)
        second = f"{server.url}/next?page=2"
        server.will(
            Reply(
                body={
                    "value": [_machine("vmss_1", "2", "PowerState/running")],
                    "nextLink": second,
                }
            ),
            Reply(
                body={
                    "value": [
                        _machine("vmss_0", "1", "VM stopped"),
                        _machine("vmss_2", "3", None),
                    ]
                }
            ),
        )
        found = await arm.instances("rg a", "vmss")
        assert [(each.name, each.zone, each.state) for each in found] == [
            ("vmss_0", "1", "stopped"),
            ("vmss_1", "2", "running"),
            ("vmss_2", "3", "succeeded"),
        ]
        assert found[0] == Instance(
            name="vmss_0",
            zone="1",
            state="stopped",
            memory_mib=192,
            cpus=2.0,
            limited_by="cgroup v2",
        )
        assert server.asked == [
            (
                "GET",
                (
                    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg%20a/providers/"
                    "Microsoft.Compute/virtualMachineScaleSets/vmss/virtualMachines"
                    "?$expand=instanceView&api-version=2024-07-01"
                ),
            ),
            ("GET", "/next?page=2"),
        ]
        assert {headers["authorization"] for headers in server.headers} == {"Bearer the-token"}
        await arm.close()


async def test_a_next_page_elsewhere_is_not_asked_for(wire: Wire) -> None:
    async with scripted() as server:
        arm = adapter(wire, server.url, token="t", subscription=SUBSCRIPTION)
        other = server.url.replace("127.0.0.1", "localhost")
        server.will(Reply(body={"value": [], "nextLink": f"{other}/next"}))
        with pytest.raises(DeniedError, match="another host"):
            await arm.instances("rg", "vmss")
        assert len(server.asked) == 1
        await arm.close()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("http://127.0.0.1:8080/x", {"enforce_https": False}),
        ("http://management.example/x", {}),
    ],
)
def test_the_bearer_policy_is_relaxed_for_this_machine_alone(
    url: str, options: dict[str, bool]
) -> None:
    request = SimpleNamespace(
        http_request=SimpleNamespace(url=url), context=SimpleNamespace(options={})
    )
    AllowHttp().on_request(request)
    assert request.context.options == options


async def test_a_put_is_denied_to_all_but_the_control_plane_and_unmanages_by_deleting(
    wire: Wire, unique: str
) -> None:
    async with scripted() as server:
        server.will(Reply(status=201, body={"properties": {"provisioningState": "creating"}}))
        arm = adapter(wire, server.url, token="t", subscription=SUBSCRIPTION)
        stack = await arm.put_stack(a_request(unique))
        await arm.close()
    sent = json.loads(server.bodies[0])["properties"]
    assert stack.state is StackState.RUNNING
    assert sent["denySettings"]["mode"] == "denyWriteAndDelete"
    assert sent["denySettings"]["excludedPrincipals"] == ["control-plane"]
    assert sent["actionOnUnmanage"] == {
        "resources": "delete",
        "resourceGroups": "delete",
    }


@pytest.mark.parametrize("word", ["creating", "deletingResources", "somethingNew", ""])
async def test_a_state_that_is_not_final_is_waited_for(
    wire: Wire, unique: str, word: str
) -> None:
    async with scripted() as server:
        server.will(
            Reply(
                body={"properties": {"provisioningState": word}}, headers={"Retry-After": "3"}
            )
        )
        arm = adapter(wire, server.url, token="t", subscription=SUBSCRIPTION)
        stack = await arm.get_stack(unique)
        assert (stack.state, stack.retry_after_s) == (StackState.RUNNING, 3.0)
        await arm.close()


async def test_a_token_is_sent_without_tls_to_this_machine_only(
    wire: Wire, unique: str
) -> None:
    arm = adapter(wire, "http://management.example", token="t", subscription=SUBSCRIPTION)
    with pytest.raises(KpaxError):
        await arm.get_stack(unique)
    await arm.close()


def _machine(name: str, zone: str, power: str | None) -> dict[str, Any]:
    properties: dict[str, Any] = {
        "provisioningState": "Succeeded",
        "limits": {"memoryMib": 192, "cpus": 2.0, "mechanism": "cgroup v2"},
    }
    if power is not None and power.startswith("PowerState/"):
        codes = [{"code": "ProvisioningState/succeeded"}, {"code": power}]
        properties["instanceView"] = {"statuses": codes}
    elif power is not None:
        properties["powerState"] = power
    return {"name": name, "zones": [zone], "properties": properties}
