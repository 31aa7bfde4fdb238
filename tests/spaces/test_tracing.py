"""One trace per operation: its root, and every attempt of every step below it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from spaces import tracing
from tests.builders import some_environment

if TYPE_CHECKING:
    from pathlib import Path

# In a process of its own: a tracer provider can be set once.
OPENING = """
import asyncio
from spaces import exporting
exporting.set_up_as_asked()
from spaces.ports import StackState
from tests.builders import a_billing_event
from tests.fakes import Script
from tests.provisioning.world import World

async def main():
    world = World()
    order = await world.order()
    await world.send(a_billing_event(order_id=order.order_id))
    await world.settle()
    space = await world.space(order.space_id)
    print(space.status.value)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def spans(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The spans of one opening on the fakes, as they were written."""
    path: Path = tmp_path_factory.mktemp("traces") / "spans.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", OPENING],
        env={**some_environment(), "KPAX_TRACES": str(path), "PYTHONPATH": "."},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.strip() == "active", done.stderr
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_an_operation_has_one_trace_with_one_root(spans: list[dict[str, Any]]) -> None:
    [op_id] = {span["attributes"]["kpax.operation"] for span in spans}
    assert {span["context"]["trace_id"] for span in spans} == {f"0x{tracing.trace_of(op_id)}"}
    [root] = [span for span in spans if span["parent_id"] is None]
    assert root["name"] == "provision"
    assert root["context"]["span_id"] == f"0x{tracing.ids_of(op_id)[1]:016x}"
    assert root["attributes"]["kpax.status"] == "succeeded"
    others = [span for span in spans if span is not root]
    assert {span["parent_id"] for span in others} == {root["context"]["span_id"]}


def test_every_step_has_its_span(spans: list[dict[str, Any]]) -> None:
    done = [
        span["attributes"]["kpax.step"]
        for span in spans
        if span["attributes"].get("kpax.outcome") == "done"
    ]
    assert done == [
        "route", "reserve", "deploy", "data", "start", "publish", "smoke", "activate",
    ]  # fmt: skip


def test_ids_differ_from_operation_to_operation_and_are_never_zero() -> None:
    ids = {tracing.ids_of(f"op-s-1-{number:04}") for number in range(1000)}
    assert len({one for one, _ in ids}) == len({two for _, two in ids}) == 1000
    assert all(0 < one < 2**128 and 0 < two < 2**64 for one, two in ids)
