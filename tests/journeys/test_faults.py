"""Faults on the real stack: kill -9 at the numbered lines of the protocol, and of whole parts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from provisioning.plans import PROVISION
from tests.journeys.stack import Stack
from tests.journeys.stopping import POINTS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

STEPS = tuple(step.name for step in PROVISION.steps)


@pytest.fixture
def stopping() -> Iterator[Stack]:
    """A stack whose app dies where its stop file says, and whose sweeper looks each second."""
    stack = Stack()
    settings = {
        "KPAX_PORTS_WRAPPER": "tests.journeys.stopping:wrap",
        "KPAX_STOP_FILE": str(stack.home / "stop"),
        "KPAX_SWEEP_SCHEDULE": "*/1 * * * * *",
        "KPAX_SWEEP_GRACE_S": "2",
    }
    stack.write_settings(settings)
    yield stack
    stack.down()


def survives(stack: Stack, places: list[tuple[str, str]]) -> None:
    """Open one space through a crash at each place, in this order."""
    stop = stack.home / "stop"
    stop.write_text("".join(f"{step} {point}\n" for step, point in places))
    stack.up()
    order = stack.order("acme")
    stack.pay(order)
    for crash in range(len(places)):
        left = len(places) - crash - 1
        stack.until(
            lambda left=left: (
                len(stop.read_text().splitlines()) <= left
                and not stack.status()["functions_host"]["healthy"]
            ),
            within_s=90,
            told=f"no crash at {places[crash]}",
        )
        stack.up()
    stack.until_active("acme")
    operations = stack.json("op", "list", "acme")["items"]
    assert [(one["kind"], one["status"]) for one in operations] == [("provision", "succeeded")]
    stack.until(
        lambda: stack.json("queue", "list")["items"][1]["active"] == 0,
        within_s=60,
        told="a message is left over",
    )


def test_the_app_may_die_at_each_line_of_the_protocol(stopping: Stack) -> None:
    """Each of the four lines, in a step of its own: a step commits only once."""
    survives(stopping, list(zip(("route", "deploy", "data", "smoke"), POINTS, strict=True)))


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("points", [POINTS[:3], POINTS[3:]], ids=["commit", "send"])
def test_the_app_may_die_at_each_line_of_every_step(
    stopping: Stack, points: tuple[str, ...]
) -> None:
    survives(stopping, [(step, point) for step in STEPS for point in points])


def test_parts_may_be_killed_while_spaces_open() -> None:
    """Kill -9 of Resource Manager, broker and Functions host; all is active within 120 s."""
    stack = Stack()
    stack.up()
    try:
        names = ("one", "two", "three")
        for name in names:
            stack.pay(stack.order(name))
        for part in ("resource_manager", "service_bus", "functions_host"):
            stack.kill(part)
            stack.until(
                lambda part=part: not stack.status()[part]["healthy"],
                within_s=20,
                told=f"{part} is still called healthy",
            )
            stack.up()
        stack.until_active(*names)
        for name in names:
            kinds = [one["kind"] for one in stack.json("op", "list", name)["items"]]
            assert kinds == ["provision"]
        queues = {one["name"]: one for one in stack.json("queue", "list")["items"]}
        assert queues["provisioning-steps"]["dead_letter"] == 0
    finally:
        stack.down()
