"""Output bindings and topic triggers with the broker and the host as processes."""

from __future__ import annotations

import asyncio
import json
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

import pytest
from azure.servicebus import ServiceBusMessage

from tests.local.functions_host.processes import HostProcess, host_process
from tests.local.service_bus.process import Broker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.local.functions_host.rig import MakeApp

pytestmark = pytest.mark.stack

_APP = """
import json, os
ran = open(os.environ["RAN"], "a", buffering=1)

@app.service_bus_queue_trigger("msg", connection="ServiceBus", queue_name="%QUEUE%")
@app.service_bus_topic_output("$return", connection="ServiceBus", topic_name="%TOPIC%")
@app.service_bus_queue_output("copy", connection="ServiceBus", queue_name="%COPIES%")
async def spread(msg: func.ServiceBusMessage, copy: func.Out[bytes]) -> str:
    copy.set(msg.get_body())
    return "told: " + msg.get_body().decode()

@app.service_bus_topic_trigger("msg", connection="ServiceBus", topic_name="%TOPIC%",
    subscription_name="all")
def told(msg: func.ServiceBusMessage) -> None:
    ran.write(json.dumps([msg.get_body().decode(), msg.content_type]) + "\\n")
"""


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    found = Broker(tmp_path)
    found.start()
    yield found
    found.stop()


def _bodies(broker: Broker, queue: str) -> list[tuple[bytes, Any]]:
    with ExitStack() as stack:
        client = stack.enter_context(broker.client())
        receiver = stack.enter_context(closing(client.get_queue_receiver(queue)))
        found = receiver.receive_messages(max_message_count=5, max_wait_time=20)
        return [(b"".join(one.body), one.content_type) for one in found]


def _send(broker: Broker, queue: str, body: str) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(broker.client())
        sender = stack.enter_context(closing(client.get_queue_sender(queue)))
        sender.send_messages(ServiceBusMessage(body))


async def test_what_goes_to_a_topic_reaches_the_functions_of_its_subscriptions(
    broker: Broker, make_app: MakeApp, tmp_path: Path
) -> None:
    queue, copies = broker.queue(), broker.queue()
    with broker.admin() as admin:
        admin.create_topic("news")
        admin.create_subscription("news", "all")
    ran = tmp_path / "ran"
    ran.touch()
    settings = {"QUEUE": queue, "COPIES": copies, "TOPIC": "news", "RAN": str(ran)}
    host: HostProcess
    async with host_process(
        make_app(_APP),
        tmp_path / "home",
        ServiceBus=broker.connection_string,
        **settings,
    ) as host:
        await host.running()
        await asyncio.to_thread(_send, broker, queue, "hello")
        async with asyncio.timeout(30):
            while not (lines := ran.read_text().splitlines()):  # noqa: ASYNC110 — written by another process
                await asyncio.sleep(0.01)
        assert [json.loads(line) for line in lines] == [["told: hello", "text/plain"]]
        found = await asyncio.to_thread(_bodies, broker, copies)
    assert found == [(b"hello", "application/octet-stream")]
