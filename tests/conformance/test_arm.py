"""Stacks are made by name, looked at by name, and never waited for inside a call."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import time
import uuid
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from spaces.adapters.arm import AllowHttp, AzureArm
from spaces.adapters.credentials import StaticCredential
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
from spaces.ports import Arm, Instance, StackState
from tests.builders import a_stack_request, a_template
from tests.conformance.scripted import Reply, scripted
from tests.fakes import FakeArm, FakeClock, Script

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from spaces.adapters.wire import Wire
    from spaces.ports import Stack, StackRequest
    from tests.conformance.parts import Parts

SUBSCRIPTION = str(uuid.UUID(int=7))
IDENTITIES = "Microsoft.ManagedIdentity/userAssignedIdentities"


class Rig(Protocol):
    """A Resource Manager whose next operations can be made slow, or made to fail."""

    arm: Arm

    def slow(self, name: str, seconds: float) -> None: ...

    def fail(self, name: str, code: str, message: str) -> None: ...

    def cancel(self, name: str) -> None: ...

    async def pass_time(self) -> None: ...


class FakeRig:
    def __init__(self) -> None:
        self._clock = FakeClock()
        self._fake = FakeArm(
            self._clock,
            outputs=lambda request: {"group": request.parameters["resourceGroup"]},
            default=Script(duration_s=0.01, delete_s=0.01),
        )
        self.arm: Arm = self._fake

    def slow(self, name: str, seconds: float) -> None:
        self._fake.scripts[name] = Script(duration_s=seconds)

    def fail(self, name: str, code: str, message: str) -> None:
        self._fake.scripts[name] = Script(failure=(code, message))

    def cancel(self, name: str) -> None:
        self._fake.scripts[name] = Script(canceled=True)

    async def pass_time(self) -> None:
        self._clock.advance(0.5)


class RealRig:
    def __init__(self, parts: Parts, arm: Arm) -> None:
        self._file = parts.home.path("resource_manager", "faults.json")
        self.arm = arm

    def slow(self, name: str, seconds: float) -> None:
        self.fault(kind="slow", type=IDENTITIES, name=f"rg-kx-{name}", for_s=seconds)

    def fail(self, name: str, code: str, message: str) -> None:
        self.fault(
            kind="resource", type=IDENTITIES, name=f"rg-kx-{name}", code=code, message=message
        )

    def cancel(self, name: str) -> None:
        self.fault(kind="operation", method="PUT", path=f"/{name}", status="Canceled")

    def fault(self, **fault: object) -> None:
        """The one fault that is planned from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps({"faults": [fault]}))
        os.replace(new, self._file)  # noqa: PTH105 — one step: no half-written plan is read

    async def pass_time(self) -> None:
        await asyncio.sleep(0.02)


def _start(parts: Parts) -> str:
    """The endpoint of a Resource Manager that runs."""
    parts.start_azurite()
    endpoint = f"http://127.0.0.1:{parts.home.port('resource_manager')}"
    parts.start("resource_manager", health=f"{endpoint}/healthz")
    return endpoint


def _adapter(wire: Wire, endpoint: str, *, token: str, subscription: str) -> AzureArm:
    return AzureArm(
        wire,
        endpoint=endpoint,
        subscription=subscription,
        credential=StaticCredential(token),
        excluded_principal="control-plane",
    )


@pytest.fixture
async def real(parts: Parts, wire: Wire) -> AsyncIterator[RealRig]:
    endpoint = await asyncio.to_thread(_start, parts)
    subscription = parts.home.value("subscription_id", lambda: str(uuid.uuid4()))
    arm = _adapter(wire, endpoint, token=parts.home.secret("token"), subscription=subscription)
    rig = RealRig(parts, arm)
    yield rig
    rig._file.unlink(missing_ok=True)
    await arm.close()


@pytest.fixture(params=["fake", pytest.param("local", marks=pytest.mark.stack)])
def rig(request: pytest.FixtureRequest) -> Rig:
    return FakeRig() if request.param == "fake" else request.getfixturevalue("real")


async def _ended(rig: Rig, name: str) -> Stack:
    """The stack when it runs no longer."""
    until = time.monotonic() + 20
    while (stack := await rig.arm.get_stack(name)).state is StackState.RUNNING:
        assert time.monotonic() < until, "the stack does not end"
        await rig.pass_time()
    return stack


def a_request(unique: str, **over: Any) -> StackRequest:
    return a_stack_request(f"s-{unique}-1", **over)


async def test_a_stack_is_absent_until_it_is_put(rig: Rig, unique: str) -> None:
    stack = await rig.arm.get_stack(f"s-{unique}-1")
    assert (stack.state, stack.outputs) == (StackState.ABSENT, {})


async def test_a_put_answers_before_the_stack_stands(rig: Rig, unique: str) -> None:
    request = a_request(unique)
    rig.slow(request.name, 0.3)
    stack = await rig.arm.put_stack(request)
    assert stack.state is StackState.RUNNING
    assert (await rig.arm.get_stack(request.name)).state is StackState.RUNNING
    ended = await _ended(rig, request.name)
    assert ended.state is StackState.SUCCEEDED
    assert ended.outputs == {"group": f"rg-kx-{request.name}"}
    assert ended.parameters["resourceGroup"] == f"rg-kx-{request.name}"
    assert (ended.code, ended.message) == (None, None)


async def test_a_running_stack_says_when_to_look_again(rig: Rig, unique: str) -> None:
    request = a_request(unique)
    rig.slow(request.name, 0.3)
    stack = await rig.arm.put_stack(request)
    assert stack.retry_after_s is not None
    assert 0 < stack.retry_after_s <= 30
    await _ended(rig, request.name)


async def test_a_put_may_be_repeated_when_it_is_done(rig: Rig, unique: str) -> None:
    for _ in range(2):
        await rig.arm.put_stack(a_request(unique))
        assert (await _ended(rig, f"s-{unique}-1")).state is StackState.SUCCEEDED


async def test_a_put_while_another_runs_is_a_conflict(rig: Rig, unique: str) -> None:
    request = a_request(unique)
    rig.slow(request.name, 0.3)
    await rig.arm.put_stack(request)
    with pytest.raises(ConflictError):
        await rig.arm.put_stack(request)
    with pytest.raises(ConflictError):
        await rig.arm.delete_stack(request.name)
    assert (await _ended(rig, request.name)).state is StackState.SUCCEEDED


async def test_a_failed_stack_tells_the_innermost_cause(rig: Rig, unique: str) -> None:
    request = a_request(unique)
    rig.fail(request.name, "SkuNotAvailable", "no such machine in zone 2")
    await rig.arm.put_stack(request)
    stack = await _ended(rig, request.name)
    assert stack.state is StackState.FAILED
    assert stack.code == "SkuNotAvailable"
    assert "no such machine in zone 2" in (stack.message or "")
    assert stack.outputs == {}


async def test_a_canceled_stack_has_failed(rig: Rig, unique: str) -> None:
    request = a_request(unique)
    rig.cancel(request.name)
    await rig.arm.put_stack(request)
    stack = await _ended(rig, request.name)
    assert (stack.state, stack.code) == (StackState.FAILED, "Canceled")


async def test_a_deleted_stack_is_absent_in_the_end(rig: Rig, unique: str) -> None:
    name = f"s-{unique}-1"
    assert (await rig.arm.delete_stack(name)).state is StackState.ABSENT
    await rig.arm.put_stack(a_request(unique))
    await _ended(rig, name)
    assert (await rig.arm.delete_stack(name)).state is StackState.RUNNING
    assert (await _ended(rig, name)).state is StackState.ABSENT
    assert (await rig.arm.delete_stack(name)).state is StackState.ABSENT


async def test_a_failed_stack_can_be_deleted_and_made_again(rig: Rig, unique: str) -> None:
    request = a_request(unique)
    rig.fail(request.name, "Broken", "for a test")
    await rig.arm.put_stack(request)
    assert (await _ended(rig, request.name)).state is StackState.FAILED
    await rig.arm.delete_stack(request.name)
    assert (await _ended(rig, request.name)).state is StackState.ABSENT


@pytest.mark.parametrize(
    "over",
    [
        {"parameters": {}},
        {"parameters": {"resourceGroup": "rg-kx-x", "unknown": 1}},
        {"template": {k: v for k, v in a_template().items() if k != "resources"}},
    ],
    ids=["missing parameter", "unknown parameter", "no resources"],
)
async def test_a_wrong_template_or_parameter_is_invalid_and_makes_nothing(
    rig: Rig, unique: str, over: dict[str, object]
) -> None:
    with pytest.raises(InvalidError):
        await rig.arm.put_stack(a_request(unique, **over))
    assert (await rig.arm.get_stack(f"s-{unique}-1")).state is StackState.ABSENT


async def test_a_secure_parameter_is_never_shown(rig: Rig, unique: str) -> None:
    template = a_template()
    parameters: Any = template["parameters"]
    parameters["password"] = {"type": "securestring"}
    request = a_request(
        unique,
        template=template,
        parameters={"resourceGroup": f"rg-kx-s-{unique}-1", "password": "S3cret"},
    )
    await rig.arm.put_stack(request)
    stack = await _ended(rig, request.name)
    assert stack.state is StackState.SUCCEEDED
    assert "S3cret" not in str(stack)


async def test_a_scale_set_that_is_not_there_has_no_machines(rig: Rig, unique: str) -> None:
    assert await rig.arm.instances(f"rg-{unique}", "vmss") == []


# --- what a misbehaving server makes the client raise: local-stack.md 2.4 ---------------------


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
    real: RealRig, unique: str, fault: dict[str, object], expected: type[KpaxError]
) -> None:
    request = a_request(unique)
    real.fault(kind="answer", method="PUT", path=f"/{request.name}", **fault)
    with pytest.raises(expected) as refusal:
        await real.arm.put_stack(request)
    if isinstance(refusal.value, ThrottledError):
        assert refusal.value.retry_after_s == 7
    assert (await real.arm.get_stack(request.name)).state is StackState.ABSENT


@pytest.mark.stack
async def test_after_a_lost_answer_the_stack_is_found_by_name(
    real: RealRig, unique: str
) -> None:
    request = a_request(unique)
    real.fault(kind="lose", method="PUT", path=f"/{request.name}")
    # aiohttp itself repeats a PUT whose connection was an old one; then it meets its own stack
    with contextlib.suppress(UnknownError, ConflictError):
        await real.arm.put_stack(request)
    assert (await _ended(real, request.name)).state is StackState.SUCCEEDED


@pytest.mark.stack
async def test_a_failing_look_says_nothing_of_the_stack(real: RealRig, unique: str) -> None:
    name = f"s-{unique}-1"
    real.fault(kind="answer", method="GET", path=f"/{name}", status=500, text="<html>no</html>")
    with pytest.raises(TransientError):
        await real.arm.get_stack(name)
    real.fault(
        kind="answer", method="GET", path=f"/{name}", status=404, code="SubscriptionNotFound"
    )
    with pytest.raises(UnknownError):
        await real.arm.get_stack(name)


@pytest.mark.stack
async def test_a_wrong_token_is_denied(parts: Parts, wire: Wire, unique: str) -> None:
    endpoint = await asyncio.to_thread(_start, parts)
    arm = _adapter(wire, endpoint, token="wrong", subscription=SUBSCRIPTION)
    with pytest.raises(DeniedError):
        await arm.get_stack(unique)
    await arm.close()


async def test_a_resource_manager_that_does_not_answer_was_sent_nothing(
    wire: Wire, unused_port: int, unique: str
) -> None:
    arm = _adapter(
        wire, f"http://127.0.0.1:{unused_port}", token="t", subscription=SUBSCRIPTION
    )
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
        arm = _adapter(wire, server.url, token="t", subscription=SUBSCRIPTION)
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
        arm = _adapter(wire, server.url, token="the-token", subscription=SUBSCRIPTION)
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
                    "?api-version=2024-07-01"
                ),
            ),
            ("GET", "/next?page=2"),
        ]
        assert {headers["authorization"] for headers in server.headers} == {"Bearer the-token"}
        await arm.close()


async def test_a_next_page_elsewhere_is_not_asked_for(wire: Wire) -> None:
    async with scripted() as server:
        arm = _adapter(wire, server.url, token="t", subscription=SUBSCRIPTION)
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
        arm = _adapter(wire, server.url, token="t", subscription=SUBSCRIPTION)
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
        arm = _adapter(wire, server.url, token="t", subscription=SUBSCRIPTION)
        stack = await arm.get_stack(unique)
        assert (stack.state, stack.retry_after_s) == (StackState.RUNNING, 3.0)
        await arm.close()


async def test_a_token_is_sent_without_tls_to_this_machine_only(
    wire: Wire, unique: str
) -> None:
    arm = _adapter(wire, "http://management.example", token="t", subscription=SUBSCRIPTION)
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
