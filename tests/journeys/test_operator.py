"""Stuck work on the real stack: a dead letter becomes an operator's, and his word moves it on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from azure.servicebus import ServiceBusMessage
from azure.servicebus.aio import ServiceBusClient

from tests.journeys.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.stack, pytest.mark.timeout(300)]

WHY = ("--reason", "seen and mended")


@pytest.fixture
def broken() -> Iterator[Stack]:
    """A stack on which the step `start` crashes for as long as the file `broken` stands."""
    stack = Stack()
    stack.write_settings(
        {
            "KPAX_PORTS_WRAPPER": "tests.journeys.breaking:wrap",
            "KPAX_BREAK_FILE": str(stack.home / "broken"),
            "KPAX_SWEEP_SCHEDULE": "*/1 * * * * *",
        }
    )
    (stack.home / "broken").touch()
    stack.up()
    yield stack
    stack.down()


def operation(stack: Stack, name: str) -> dict[str, Any]:
    (found,) = stack.json("op", "list", name)["items"]
    return found


def queue(stack: Stack, name: str) -> dict[str, Any]:
    (found,) = [one for one in stack.json("queue", "list")["items"] if one["name"] == name]
    return found


async def send(stack: Stack, name: str, body: str) -> None:
    connection = stack.json("env")["service_bus_connection"]
    async with (
        ServiceBusClient.from_connection_string(connection) as client,
        client.get_queue_sender(name) as sender,
    ):
        await sender.send_messages(ServiceBusMessage(body, message_id="junk"))


def test_a_step_that_crashes_waits_for_an_operator_whose_word_moves_it_on(
    broken: Stack,
) -> None:
    for name in ("acme", "beta"):
        broken.pay(broken.order(name))
    asyncio.run(send(broken, "provisioning-steps", "junk"))
    for name in ("acme", "beta"):
        broken.until(
            lambda name=name: operation(broken, name)["status"] == "needsOperator",
            within_s=90,
            told="nobody was told",
        )
    shown = operation(broken, "acme")
    op_id = shown["operation_id"]
    assert "MaxDeliveryCountExceeded" in shown["error"]
    assert [s["name"] for s in shown["steps"] if s["status"] == "needsOperator"] == ["start"]
    broken.until(
        lambda: queue(broken, "provisioning-steps")["rejected"] != [],
        within_s=60,
        told="the junk is not explained",
    )
    steps = queue(broken, "provisioning-steps")
    assert (steps["dead_letter"], steps["dead_letters"]) == (0, [])
    (junk,) = steps["rejected"]
    assert (junk["reason"], junk["message_id"]) == ("dead-letter", "junk")

    # Each refusal has its exit code, and the space waits all the while.
    assert broken.run("op", "retry", op_id, "--json").code == 2
    assert broken.run("op", "retry", "op-s-unknown-0001", *WHY, "--json").code == 2
    assert broken.run("op", "skip", op_id, *WHY, "--json").code == 3
    assert broken.run("backup", "run", "acme", "--json").code == 3
    foreseen = broken.json("op", "rollback", op_id, *WHY, "--dry-run")
    assert foreseen["steps"] == ["deploy", "reserve", "route"]

    # Still broken, it comes back; mended, it goes on to the end.
    assert broken.run("op", "retry", op_id, *WHY, "--wait", "--json").code == 5
    (broken.home / "broken").unlink()
    retried = broken.run("op", "retry", op_id, *WHY, "--wait", "--json")
    assert (retried.code, retried.body["status"]) == (0, "succeeded"), retried.err
    assert broken.space("acme")["status"] == "active"

    # The other is taken back under a pause, and goes nowhere before its end.
    other = operation(broken, "beta")["operation_id"]
    broken.json("pause", "cluster", "france", *WHY)
    assert broken.run("pause", "cluster", "france", *WHY, "--json").code == 3
    broken.json("op", "abort", other, *WHY)
    assert (
        broken.run("op", "abort", other, *WHY, "--wait", "--timeout", "3", "--json").code == 3
    )
    assert operation(broken, "beta")["status"] == "running"
    (standing,) = broken.json("pause", "list")["items"]
    assert standing["operations"] == [other]
    broken.json("unpause", "cluster", "france", *WHY)
    broken.until(
        lambda: broken.space("beta")["status"] == "failed", within_s=90, told="not undone"
    )
    assert operation(broken, "beta")["status"] == "canceled"
    assert operation(broken, "beta")["error"] == "stopped by key:default: seen and mended"
    (chain,) = broken.json("audit", "verify", "beta")["items"]
    assert chain["ok"]
