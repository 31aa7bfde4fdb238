"""Messages that functions put out by a binding: an in-memory bus, the real worker library."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.local.functions_host.rig import SETTINGS

if TYPE_CHECKING:
    from tests.local.functions_host.rig import MakeApp, RunHost

_APP = """
@app.route(route="text/{body}", methods=["POST"])
@app.service_bus_queue_output("out", connection="ServiceBus", queue_name="%TARGET%")
def text(req: func.HttpRequest, out: func.Out[str]) -> func.HttpResponse:
    if req.route_params["body"] != "nothing":
        out.set(req.route_params["body"])
    if req.route_params["body"] == "fail":
        raise RuntimeError("no")
    return func.HttpResponse("done")

@app.route(route="lost", methods=["POST"])
@app.service_bus_queue_output("out", connection="ServiceBus", queue_name="broken")
async def lost(req: func.HttpRequest, out: func.Out[bytes]) -> func.HttpResponse:
    out.set(b"bytes")
    return func.HttpResponse("done")

@app.service_bus_queue_trigger("msg", connection="ServiceBus", queue_name="q")
@app.service_bus_topic_output("$return", connection="ServiceBus", topic_name="news")
async def passed_on(msg: func.ServiceBusMessage) -> bytes:
    return msg.get_body() + b"!"

@app.service_bus_queue_trigger("msg", connection="ServiceBus", queue_name="bad")
@app.service_bus_queue_output("$return", connection="ServiceBus", queue_name="broken")
async def never(msg: func.ServiceBusMessage) -> str:
    return "x"
"""


async def test_a_text_goes_out_when_the_function_ended_well(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_APP), environ={**SETTINGS, "TARGET": "orders"}) as rig:
        for body, status in (("hello", 200), ("nothing", 200), ("fail", 500)):
            async with rig.client.post(rig.url(f"/text/{body}")) as answer:
                assert answer.status == status, body
        assert rig.bus.sent == [("orders", b"hello", "text/plain", False)]


async def test_what_is_returned_goes_out_before_the_message_is_completed(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_APP), environ={**SETTINGS, "TARGET": "orders"}) as rig:
        queue = rig.bus.queues["q"]
        await queue.put(b"news")
        await queue.until(lambda: queue.completed)
        assert rig.bus.sent == [("news", b"news!", "application/octet-stream", True)]


async def test_what_cannot_be_sent_fails_the_function(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_APP), environ={**SETTINGS, "TARGET": "orders"}) as rig:
        async with rig.client.post(rig.url("/lost")) as answer:
            assert answer.status == 500
        queue = rig.bus.queues["bad"]
        await queue.put(b"m")
        await queue.until(lambda: queue.dead)
        assert queue.completed == []
