"""Batches and sessions with broker and host as processes, and kill -9 of the host."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import ExitStack, closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

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
import json, os
ran = open(os.environ["RAN"], "a", buffering=1)

@app.service_bus_queue_trigger("msgs", connection="ServiceBus", queue_name="%BATCHES%",
    cardinality=func.Cardinality.MANY)
def many(msgs: List[func.ServiceBusMessage]) -> None:
    bodies = [one.get_body().decode() for one in msgs]
    ran.write(json.dumps({"bodies": bodies, "counts": [one.delivery_count for one in msgs],
        "ids": [one.message_id for one in msgs], "kind": [one.application_properties.get("kind")
        for one in msgs]}) + "\\n")
    if "bad" in bodies:
        raise RuntimeError("a bad one")

@app.service_bus_queue_trigger("msg", connection="ServiceBus", queue_name="%SESSIONS%",
    is_sessions_enabled=True)
async def ordered(msg: func.ServiceBusMessage) -> None:
    body = msg.get_body().decode()
    ran.write(json.dumps({"session": msg.session_id, "body": body,
        "count": msg.delivery_count}) + "\\n")
    if body == "long":
        await asyncio.sleep(3)
    if body == "poison":
        raise RuntimeError(body)
    if body == "hold" and "HOLD" in os.environ:
        await asyncio.sleep(60)
"""
_BUS = {"sessionIdleTimeout": "00:00:01", "maxConcurrentSessions": 3, "maxMessageBatchSize": 50}


class Scene:
    """A broker with a queue for batches and one with sessions (2 s locks), and what ran."""

    def __init__(self, broker: Broker, batches: str, sessions: str, ran: Path) -> None:
        self.broker = broker
        self.batches = batches
        self.sessions = sessions
        self._ran = ran

    def send(self, queue: str, *messages: ServiceBusMessage) -> None:
        with ExitStack() as stack:
            client = stack.enter_context(self.broker.client())
            stack.enter_context(closing(client.get_queue_sender(queue))).send_messages(
                list(messages)
            )

    def ran(self, key: str) -> list[dict[str, Any]]:
        """The lines that have this key."""
        lines = self._ran.read_text(encoding="utf-8").splitlines()
        return [found for line in lines if key in (found := json.loads(line))]

    def of(self, session: str) -> list[tuple[str, int]]:
        """Bodies and delivery counts of a session, in the order they ran."""
        found = self.ran("session")
        return [(one["body"], one["count"]) for one in found if one["session"] == session]

    def counts(self, queue: str) -> tuple[int, int]:
        """Active and dead messages, from the broker."""
        with self.broker.admin() as admin:
            found = admin.get_queue_runtime_properties(queue)
        return found.active_message_count, found.dead_letter_message_count

    async def until_left(self, queue: str, active: int, dead: int) -> None:
        async with asyncio.timeout(30):
            while await asyncio.to_thread(self.counts, queue) != (active, dead):  # noqa: ASYNC110 — only the broker knows
                await asyncio.sleep(0.02)

    async def until_ran(self, session: str, body: str, count: int) -> None:
        async with asyncio.timeout(30):
            while (body, count) not in self.of(session):  # noqa: ASYNC110 — written by another process
                await asyncio.sleep(0.01)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    broker = Broker(tmp_path)
    broker.start()
    lock = timedelta(seconds=2)
    batches = broker.queue(lock_duration=lock, max_delivery_count=3)
    sessions = broker.queue(lock_duration=lock, max_delivery_count=3, requires_session=True)
    ran = tmp_path / "ran"
    ran.touch()
    yield Scene(broker, batches, sessions, ran)
    broker.stop()


@pytest.fixture
def app(make_app: MakeApp) -> Path:
    return make_app(_APP, extensions={"serviceBus": _BUS})


@pytest.fixture
async def host(scene: Scene, app: Path, tmp_path: Path) -> AsyncIterator[HostProcess]:
    async with _host(scene, app, tmp_path) as host:
        yield host


def _host(scene: Scene, app: Path, tmp_path: Path, **environ: str):  # noqa: ANN202 — an async context manager
    return host_process(
        app,
        tmp_path / "home",
        ServiceBus=scene.broker.connection_string,
        BATCHES=scene.batches,
        SESSIONS=scene.sessions,
        RAN=str(tmp_path / "ran"),
        **environ,
    )


async def test_batches_run_once_and_a_bad_one_is_dead_with_its_neighbours(
    scene: Scene, host: HostProcess
) -> None:
    await host.running()
    messages = [
        ServiceBusMessage(
            str(number), message_id=f"m{number}", application_properties={"kind": "k"}
        )
        for number in range(120)
    ]
    await asyncio.to_thread(scene.send, scene.batches, *messages)
    await scene.until_left(scene.batches, 0, 0)
    batches = scene.ran("bodies")
    assert [body for one in batches for body in one["bodies"]] == [str(n) for n in range(120)]
    assert batches[0]["ids"][0] == "m0"
    assert set(batches[0]["kind"]) == {"k"}
    assert max(len(one["bodies"]) for one in batches) <= 50
    assert len(batches) < 20
    await asyncio.to_thread(
        scene.send, scene.batches, ServiceBusMessage("bad"), ServiceBusMessage("beside")
    )
    await scene.until_left(scene.batches, 0, 2)
    bad = [one for one in scene.ran("bodies") if "bad" in one["bodies"]]
    assert [one["counts"] for one in bad] == [[1, 1], [2, 2], [3, 3]]


async def test_sessions_keep_their_order_over_poison_and_a_run_longer_than_the_lock(
    scene: Scene, host: HostProcess
) -> None:
    await host.running()
    messages = [
        ServiceBusMessage(body, session_id=session)
        for session, bodies in (
            ("a", "1 long 2"),
            ("b", "1 poison 2"),
            ("c", "1 2"),
            ("d", "1 2"),
        )
        for body in bodies.split()
    ]
    await asyncio.to_thread(scene.send, scene.sessions, *messages)
    await scene.until_left(scene.sessions, 0, 1)
    assert scene.of("a") == [("1", 1), ("long", 1), ("2", 1)]
    assert scene.of("b") == [("1", 1), ("poison", 1), ("poison", 2), ("poison", 3), ("2", 1)]
    assert scene.of("c") == scene.of("d") == [("1", 1), ("2", 1)]
    host.process.send_signal(signal.SIGTERM)
    assert await host.ended() == 0


async def test_a_session_that_a_killed_host_held_goes_on_in_the_next_one(
    scene: Scene, app: Path, tmp_path: Path
) -> None:
    async with _host(scene, app, tmp_path, HOLD="1") as first:
        await first.running()
        messages = [ServiceBusMessage(body, session_id="a") for body in ("hold", "after")]
        await asyncio.to_thread(scene.send, scene.sessions, *messages)
        await scene.until_ran("a", "hold", 1)
        os.kill(first.pid, signal.SIGKILL)
        assert await first.ended() == -signal.SIGKILL
    async with _host(scene, app, tmp_path) as second:
        await second.running()
        await scene.until_left(scene.sessions, 0, 0)
    # A session's messages go free with its link, uncounted.
    assert scene.of("a") == [("hold", 1), ("hold", 1), ("after", 1)]
