"""The host and the broker as processes: poison, long functions, and kill -9 of either."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import ExitStack, closing
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from azure.servicebus import ServiceBusMessage

from tests.local.functions_host.processes import HostProcess, host_process
from tests.local.service_bus.process import Broker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.local.functions_host.rig import MakeApp

pytestmark = pytest.mark.stack

# What ran is written to a file: it must outlive the host.
_APP = """
import os, threading
ran = open(os.environ["RAN"], "a", buffering=1)

@app.service_bus_queue_trigger("msg", connection="ServiceBus", queue_name="%QUEUE%")
async def work(msg: func.ServiceBusMessage) -> None:
    body = msg.get_body().decode()
    ran.write(f"{body} {msg.delivery_count}\\n")
    if body == "poison":
        raise RuntimeError(body)
    if body == "long":
        await asyncio.sleep(3.5)
        ran.write("long ended\\n")
    if body == "hold" and msg.delivery_count == 1:
        await asyncio.sleep(60)

@app.service_bus_queue_trigger(
    "msg", connection="ServiceBus", queue_name="%QUEUE%/$deadletterqueue")
def buried(msg: func.ServiceBusMessage) -> None:
    ran.write(f"dead {msg.get_body().decode()} {msg.application_properties['DeadLetterReason']}\\n")
"""


class Scene:
    """A broker with one queue (2 s locks, dead after three deliveries), a host, and what ran."""

    def __init__(self, broker: Broker, queue: str, ran: Path) -> None:
        self.broker = broker
        self.queue = queue
        self._ran = ran

    def send(self, *bodies: str) -> None:
        with ExitStack() as stack:
            client = stack.enter_context(self.broker.client())
            sender = stack.enter_context(closing(client.get_queue_sender(self.queue)))
            sender.send_messages([ServiceBusMessage(body) for body in bodies])

    def ran(self) -> list[str]:
        return self._ran.read_text(encoding="utf-8").splitlines()

    def counts(self) -> tuple[int, int]:
        """Active and dead messages, from the broker."""
        with self.broker.admin() as admin:
            found = admin.get_queue_runtime_properties(self.queue)
        return found.active_message_count, found.dead_letter_message_count

    async def until_ran(self, line: str, times: int = 1) -> None:
        async with asyncio.timeout(30):
            while self.ran().count(line) < times:  # noqa: ASYNC110 — written by another process
                await asyncio.sleep(0.01)

    async def until_empty(self) -> None:
        async with asyncio.timeout(30):
            while await asyncio.to_thread(self.counts) != (0, 0):  # noqa: ASYNC110 — likewise
                await asyncio.sleep(0.02)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    broker = Broker(tmp_path)
    broker.start()
    queue = broker.queue(lock_duration=timedelta(seconds=2), max_delivery_count=3)
    ran = tmp_path / "ran"
    ran.touch()
    yield Scene(broker, queue, ran)
    broker.stop()


@pytest.fixture
async def host(scene: Scene, make_app: MakeApp, tmp_path: Path) -> AsyncIterator[HostProcess]:
    async with _host(scene, make_app(_APP), tmp_path) as host:
        yield host


def _host(scene: Scene, app: Path, tmp_path: Path):  # noqa: ANN202 — an async context manager
    return host_process(
        app,
        tmp_path / "home",
        ServiceBus=scene.broker.connection_string,
        QUEUE=scene.queue,
        RAN=str(tmp_path / "ran"),
    )


async def test_messages_run_poison_is_buried_and_a_long_run_keeps_its_lock(
    scene: Scene, host: HostProcess
) -> None:
    await host.running()
    await asyncio.to_thread(scene.send, "one", "poison", "long", "two")
    await scene.until_ran("dead poison MaxDeliveryCountExceeded")
    await scene.until_ran("long ended")
    await scene.until_empty()
    assert [line for line in scene.ran() if line.startswith("poison")] == [
        "poison 1",
        "poison 2",
        "poison 3",
    ]
    for once in ("one 1", "two 1", "long 1", "long ended"):
        assert scene.ran().count(once) == 1, once
    failed = [line for line in host.lines() if line["event"] == "invocation.failed"]
    assert {line["function"] for line in failed} == {"work"}
    assert {line["error"] for line in failed} == {"RuntimeError: poison"}
    host.process.send_signal(signal.SIGTERM)
    assert await host.ended() == 0


async def test_a_broker_that_is_killed_and_comes_back_is_found_again(
    scene: Scene, host: HostProcess
) -> None:
    await host.running()
    await asyncio.to_thread(scene.broker.kill)
    async with asyncio.timeout(20):
        while (status := await host.status()) is None or status["state"] == "Running":  # noqa: ASYNC110 — only its port tells
            await asyncio.sleep(0.02)
    await asyncio.to_thread(scene.broker.start)
    await host.running()
    await asyncio.to_thread(scene.send, "after")
    await scene.until_ran("after 1")
    await scene.until_empty()


async def test_what_a_killed_host_held_runs_again_in_the_next_one(
    scene: Scene, make_app: MakeApp, tmp_path: Path
) -> None:
    app = make_app(_APP)
    async with _host(scene, app, tmp_path) as first:
        await first.running()
        await asyncio.to_thread(scene.send, "hold")
        await scene.until_ran("hold 1")
        os.kill(first.pid, signal.SIGKILL)
        assert await first.ended() == -signal.SIGKILL
    async with _host(scene, app, tmp_path) as second:
        await second.running()
        await scene.until_ran("hold 2")
        await scene.until_empty()


async def test_sixteen_run_at_once_and_a_burst_is_worked_off_once_each(
    scene: Scene, host: HostProcess
) -> None:
    await host.running()
    bodies = [f"m{number}" for number in range(200)]
    await asyncio.to_thread(scene.send, *bodies)
    await scene.until_empty()
    assert sorted(scene.ran()) == sorted(f"{body} 1" for body in bodies)
    text = host.log.read_text(encoding="utf-8")
    assert '"level": "ERROR"' not in text
    assert json.loads(text.splitlines()[0])["event"]
