"""A Resource Manager in memory and the local one, with what makes their operations slow or fail."""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from typing import TYPE_CHECKING, Any, Protocol

from spaces.adapters.arm import AzureArm
from spaces.adapters.credentials import StaticCredential
from spaces.ports import Arm, StackState
from tests.builders import a_stack_request
from tests.fakes import FakeArm, FakeClock, Script

if TYPE_CHECKING:
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
        self.file = parts.home.path("resource_manager", "faults.json")
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
        new = self.file.with_suffix(".new")
        new.write_text(json.dumps({"faults": [fault]}))
        os.replace(new, self.file)  # noqa: PTH105 — one step: no half-written plan is read

    async def pass_time(self) -> None:
        await asyncio.sleep(0.02)


def start(parts: Parts) -> str:
    """The endpoint of a Resource Manager that runs."""
    parts.start_azurite()
    endpoint = f"http://127.0.0.1:{parts.home.port('resource_manager')}"
    parts.start("resource_manager", health=f"{endpoint}/healthz")
    return endpoint


def adapter(
    wire: Wire,
    endpoint: str,
    *,
    token: str,
    subscription: str,
    principal: str = "control-plane",
) -> AzureArm:
    return AzureArm(
        wire,
        endpoint=endpoint,
        subscription=subscription,
        credential=StaticCredential(token),
        excluded_principal=principal,
    )


async def ended(rig: Rig, name: str) -> Stack:
    """The stack when it runs no longer."""
    until = time.monotonic() + 20
    while (stack := await rig.arm.get_stack(name)).state is StackState.RUNNING:
        assert time.monotonic() < until, "the stack does not end"
        await rig.pass_time()
    return stack


def a_request(unique: str, **over: Any) -> StackRequest:
    return a_stack_request(f"s-{unique}-1", **over)
