"""Stacks are made by name, looked at by name, and never waited for inside a call."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from spaces.errors import (
    ConflictError,
    InvalidError,
)
from spaces.ports import StackState
from tests.builders import a_template
from tests.conformance.arm_rig import (
    FakeRig,
    Rig,
    a_request,
    ended,
)

if TYPE_CHECKING:
    from spaces.ports import StackRequest


@pytest.fixture(params=["fake", pytest.param("local", marks=pytest.mark.stack)])
def rig(request: pytest.FixtureRequest) -> Rig:
    return FakeRig() if request.param == "fake" else request.getfixturevalue("real_arm")


async def test_a_stack_is_absent_until_it_is_put(rig: Rig, unique: str) -> None:
    stack = await rig.arm.get_stack(f"s-{unique}-1")
    assert (stack.state, stack.outputs) == (StackState.ABSENT, {})


async def test_a_put_answers_before_the_stack_stands(rig: Rig, unique: str) -> None:
    request = a_request(unique)
    rig.slow(request.name, 0.3)
    stack = await rig.arm.put_stack(request)
    assert stack.state is StackState.RUNNING
    assert (await rig.arm.get_stack(request.name)).state is StackState.RUNNING
    stack = await ended(rig, request.name)
    assert stack.state is StackState.SUCCEEDED
    assert stack.outputs == {"group": f"rg-kx-{request.name}"}
    assert stack.parameters["resourceGroup"] == f"rg-kx-{request.name}"
    assert (stack.code, stack.message) == (None, None)


async def test_a_running_stack_says_when_to_look_again(rig: Rig, unique: str) -> None:
    request = a_request(unique)
    rig.slow(request.name, 0.3)
    stack = await rig.arm.put_stack(request)
    assert stack.retry_after_s is not None
    assert 0 < stack.retry_after_s <= 30
    await ended(rig, request.name)


async def test_a_put_may_be_repeated_when_it_is_done(rig: Rig, unique: str) -> None:
    for _ in range(2):
        await rig.arm.put_stack(a_request(unique))
        assert (await ended(rig, f"s-{unique}-1")).state is StackState.SUCCEEDED


async def test_a_put_while_another_runs_is_a_conflict(rig: Rig, unique: str) -> None:
    request = a_request(unique)
    rig.slow(request.name, 0.3)
    await rig.arm.put_stack(request)
    with pytest.raises(ConflictError):
        await rig.arm.put_stack(request)
    with pytest.raises(ConflictError):
        await rig.arm.delete_stack(request.name)
    assert (await ended(rig, request.name)).state is StackState.SUCCEEDED


async def test_a_failed_stack_tells_the_innermost_cause(rig: Rig, unique: str) -> None:
    request = a_request(unique)
    rig.fail(request.name, "SkuNotAvailable", "no such machine in zone 2")
    await rig.arm.put_stack(request)
    stack = await ended(rig, request.name)
    assert stack.state is StackState.FAILED
    assert stack.code == "SkuNotAvailable"
    assert "no such machine in zone 2" in (stack.message or "")
    assert stack.outputs == {}


async def test_a_canceled_stack_has_failed(rig: Rig, unique: str) -> None:
    request = a_request(unique)
    rig.cancel(request.name)
    await rig.arm.put_stack(request)
    stack = await ended(rig, request.name)
    assert (stack.state, stack.code) == (StackState.FAILED, "Canceled")


async def test_a_deleted_stack_is_absent_in_the_end(rig: Rig, unique: str) -> None:
    name = f"s-{unique}-1"
    assert (await rig.arm.delete_stack(name)).state is StackState.ABSENT
    await rig.arm.put_stack(a_request(unique))
    await ended(rig, name)
    assert (await rig.arm.delete_stack(name)).state is StackState.RUNNING
    assert (await ended(rig, name)).state is StackState.ABSENT
    assert (await rig.arm.delete_stack(name)).state is StackState.ABSENT


async def test_a_failed_stack_can_be_deleted_and_made_again(rig: Rig, unique: str) -> None:
    request = a_request(unique)
    rig.fail(request.name, "Broken", "for a test")
    await rig.arm.put_stack(request)
    assert (await ended(rig, request.name)).state is StackState.FAILED
    await rig.arm.delete_stack(request.name)
    assert (await ended(rig, request.name)).state is StackState.ABSENT


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
    stack = await ended(rig, request.name)
    assert stack.state is StackState.SUCCEEDED
    assert "S3cret" not in str(stack)


async def test_stacks_are_listed_with_their_tags(rig: Rig, unique: str) -> None:
    await rig.arm.put_stack(a_request(unique, tags={"kpax-space": unique}))
    await ended(rig, f"s-{unique}-1")
    found = [stack for stack in await rig.arm.list_stacks() if unique in stack.name]
    assert [stack.name for stack in found] == [f"s-{unique}-1"]
    assert (found[0].state, found[0].outputs) == (StackState.SUCCEEDED, {})
    assert found[0].tags["kpax-space"] == unique


async def foreseen(rig: Rig, request: StackRequest, asked: str) -> dict[str, str]:
    """What a PUT would change, by the names of the resources, once the comparison is made."""
    until = time.monotonic() + 20
    while (
        found := await rig.arm.what_if_stack(request, asked=asked)
    ).state is StackState.RUNNING:
        assert time.monotonic() < until, "the comparison does not end"
        await rig.pass_time()
    assert found.state is StackState.SUCCEEDED, found
    return {one.resource.rpartition("/")[2]: one.change for one in found.differences}


async def test_what_a_put_would_change_is_foreseen_and_changes_nothing(
    rig: Rig, unique: str
) -> None:
    request = a_request(unique)
    assert set((await foreseen(rig, request, "w1")).values()) == {"create"}
    assert (await rig.arm.get_stack(request.name)).state is StackState.ABSENT
    await rig.arm.put_stack(request)
    await ended(rig, request.name)
    assert set((await foreseen(rig, request, "w2")).values()) == {"no_change"}
    other = a_request(unique, parameters={"resourceGroup": f"rg-kx-{request.name}-b"})
    assert set((await foreseen(rig, other, "w3")).values()) <= {"create", "delete", "modify"}
    assert set((await foreseen(rig, request, "w4")).values()) == {"no_change"}


async def test_a_wrong_request_is_refused_before_it_is_compared(rig: Rig, unique: str) -> None:
    with pytest.raises(InvalidError):
        await rig.arm.what_if_stack(a_request(unique, parameters={}), asked="w1")


async def test_a_vault_that_was_never_deleted_needs_no_purge(rig: Rig, unique: str) -> None:
    for _ in range(2):
        gone = await rig.arm.purge_vault(f"kv-{unique}"[:24], "francecentral")
    assert gone


async def test_a_scale_set_that_is_not_there_has_no_machines(rig: Rig, unique: str) -> None:
    assert await rig.arm.instances(f"rg-{unique}", "vmss") == []
