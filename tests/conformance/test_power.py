"""Parts of a space are stopped and started by name, keep what they hold, and nothing waits."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from spaces.errors import ConflictError, NotFoundError
from spaces.ports import Part, PartKind, Power, StackState
from tests.builders import a_stack_request
from tests.conformance.arm_rig import FakeRig, Rig, ended
from tests.fakes import FakeArm, FakeClock, Script

if TYPE_CHECKING:
    from spaces.ports import Arm


@dataclass(frozen=True)
class Powered:
    """A stack that stands, with one part of each kind."""

    rig: Rig
    stack: str
    parts: Mapping[PartKind, Part]

    @property
    def arm(self) -> Arm:
        return self.rig.arm

    async def told(self, kind: PartKind, *, on: bool) -> None:
        """Say it until nothing else is under way there: what is seen to be off may still end."""
        until = time.monotonic() + 30
        while True:
            try:
                return await self.arm.set_power(self.parts[kind], on=on)
            except ConflictError:
                assert time.monotonic() < until
                await self.rig.pass_time()

    async def becomes(self, kind: PartKind, power: Power) -> None:
        until = time.monotonic() + 30
        while (seen := await self.arm.power(self.parts[kind])) is not power:
            assert time.monotonic() < until, f"{kind} is {seen}"
            await self.rig.pass_time()


@pytest.fixture(params=["fake", pytest.param("local", marks=pytest.mark.stack)])
def rig(request: pytest.FixtureRequest) -> Rig:
    return a_fake() if request.param == "fake" else request.getfixturevalue("real_arm")


async def standing(rig: Rig, unique: str) -> Powered:
    """A stack with a database server and a scale set."""
    name, group = f"s-{unique}-1", f"rg-kx-s-{unique}-1"
    asked = a_stack_request(name, template=template(group, unique), parameters={})
    await rig.arm.put_stack(asked)
    stack = await ended(rig, name)
    assert stack.state is StackState.SUCCEEDED, stack
    names = {PartKind.MACHINES: f"vmss-{unique}", PartKind.DATABASE: f"pg-{unique}"}
    parts = {
        kind: Part(kind=kind, resource_group=group, name=part) for kind, part in names.items()
    }
    return Powered(rig, name, parts)


def a_fake() -> FakeRig:
    rig = FakeRig()
    clock = FakeClock()
    rig.arm = FakeArm(
        clock,
        outputs=lambda request: {"resourceGroup": f"rg-kx-{request.name}"},
        default=Script(power_s=1.0),
    )

    async def pass_time() -> None:
        clock.advance(0.5)

    rig.pass_time = pass_time
    return rig


def template(group: str, unique: str) -> dict[str, Any]:
    """A resource group with a database server and a scale set of two, in two zones."""
    schema = "https://schema.management.azure.com/schemas"
    server = {
        "type": "Microsoft.DBforPostgreSQL/flexibleServers",
        "apiVersion": "2024-08-01",
        "name": f"pg-{unique}",
        "location": "francecentral",
        "sku": {"name": "Standard_B2s", "tier": "Burstable"},
        "properties": {
            "version": "18",
            "administratorLogin": "kpax_admin",
            "administratorLoginPassword": "0123456789abcdef",
            "storage": {"storageSizeGB": 64},
        },
    }
    machines = {
        "type": "Microsoft.Compute/virtualMachineScaleSets",
        "apiVersion": "2024-07-01",
        "name": f"vmss-{unique}",
        "location": "francecentral",
        "sku": {"name": "Standard_B1ms", "tier": "Standard", "capacity": 2},
        "zones": ["1", "2"],
        "properties": {
            "orchestrationMode": "Flexible",
            "platformFaultDomainCount": 1,
            "virtualMachineProfile": {},
        },
    }
    return {
        "$schema": f"{schema}/2018-05-01/subscriptionDeploymentTemplate.json#",
        "contentVersion": "1.0.0.0",
        "resources": [
            {
                "type": "Microsoft.Resources/resourceGroups",
                "apiVersion": "2024-03-01",
                "name": group,
                "location": "francecentral",
            },
            {
                "type": "Microsoft.Resources/deployments",
                "apiVersion": "2024-03-01",
                "name": "parts",
                "resourceGroup": group,
                "dependsOn": [group],
                "properties": {
                    "mode": "Incremental",
                    "template": {
                        "$schema": f"{schema}/2019-04-01/deploymentTemplate.json#",
                        "contentVersion": "1.0.0.0",
                        "resources": [server, machines],
                    },
                },
            },
        ],
    }


async def test_both_kinds_go_off_and_on_again_and_nothing_waits(rig: Rig, unique: str) -> None:
    """One test, since each real server takes its second: each kind, each way."""
    powered = await standing(rig, unique)
    for on, word in ((False, Power.OFF), (True, Power.ON)):
        for kind in powered.parts:
            await powered.told(kind, on=on)
        for kind in powered.parts:
            await powered.becomes(kind, word)
    assert (await powered.arm.get_stack(powered.stack)).state is StackState.SUCCEEDED
    await powered.arm.delete_stack(powered.stack)
    await ended(powered.rig, powered.stack)
    for part in powered.parts.values():
        with pytest.raises(NotFoundError):
            await powered.arm.power(part)
        with pytest.raises(NotFoundError):
            await powered.arm.set_power(part, on=False)


async def test_a_stopped_database_refuses_a_put_and_the_stack_can_be_deleted(
    rig: Rig, unique: str
) -> None:
    powered = await standing(rig, unique)
    database = powered.parts[PartKind.DATABASE]
    await powered.arm.set_power(database, on=False)
    await powered.becomes(PartKind.DATABASE, Power.OFF)
    again = a_stack_request(
        powered.stack, template=template(database.resource_group, unique), parameters={}
    )
    await powered.arm.put_stack(again)
    stack = await ended(powered.rig, powered.stack)
    assert (stack.state, stack.code) == (StackState.FAILED, "ServerStoppedError")
    assert await powered.arm.power(database) is Power.OFF
    await powered.arm.delete_stack(powered.stack)
    assert (await ended(powered.rig, powered.stack)).state is StackState.ABSENT


async def test_what_is_not_there_has_no_power() -> None:
    part = Part(kind=PartKind.MACHINES, resource_group="rg-nothing", name="vmss-nothing")
    with pytest.raises(NotFoundError):
        await FakeArm(FakeClock()).power(part)
