"""Queue functions: an in-memory bus, the real worker library."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING

from local.functions_host import logs
from local.functions_host.queues import listener
from tests.local.functions_host.fakes import FakeBus, FakeQueue
from tests.local.functions_host.rig import MASTER_KEY, MakeApp, RunHost, until

if TYPE_CHECKING:
    import pytest

_KEEP = """
seen = []
@app.service_bus_queue_trigger("msg", connection="ServiceBus", queue_name="q")
async def keep(msg: func.ServiceBusMessage, context: func.Context) -> None:
    seen.append((msg, context))
"""


async def test_a_message_reaches_its_function_as_on_azure_and_is_completed(
    make_app: MakeApp, run_host: RunHost
) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    async with run_host(make_app(_KEEP)) as rig:
        queue = rig.bus.queues["q"]
        await queue.put(
            b'{"a": 1}',
            message_id="m-1",
            content_type="application/json",
            correlation_id="c-1",
            subject="label",
            properties={
                "kind": "order",
                "n": 3,
                "traceparent": f"00-{trace}-00f067aa0ba902b7-01",
            },
        )
        await queue.until(lambda: queue.completed == ["m-1"])
        message, context = rig.app.seen[0]
        assert message.get_body() == b'{"a": 1}'
        assert message.message_id == "m-1"
        assert message.content_type == "application/json"
        assert message.correlation_id == "c-1"
        assert message.label == message.subject == "label"
        assert message.delivery_count == 1
        assert message.sequence_number == 1
        assert message.application_properties["kind"] == "order"
        assert message.user_properties["n"] == 3
        assert len(message.lock_token) == 36
        assert message.expires_at_utc.year == 9999
        assert context.trace_context.trace_parent.split("-")[1] == trace
        # Azure's host does not send these: code that reads them must find nothing here too.
        for name in ("time_to_live", "locked_until", "scheduled_enqueue_time_utc", "state"):
            assert getattr(message, name) is None, name


_FAILS = """
tried = []
@app.service_bus_queue_trigger("msg", connection="ServiceBus", queue_name="q")
async def fails(msg: func.ServiceBusMessage) -> None:
    tried.append(msg.delivery_count)
    raise RuntimeError("poison")
"""


async def test_a_failing_message_comes_back_until_it_is_dead(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_FAILS)) as rig:
        queue = rig.bus.queues["q"]
        await queue.put(b"x")
        await queue.until(lambda: queue.dead)
        assert rig.app.tried == [1, 2, 3, 4, 5]
        assert not queue.completed


_COUNTS = """
now = 0
most = 0
done = 0
gate = asyncio.Event()
@app.service_bus_queue_trigger("msg", connection="ServiceBus", queue_name="q")
async def count(msg: func.ServiceBusMessage) -> None:
    global now, most, done
    now += 1
    most = max(most, now)
    await gate.wait()
    now -= 1
    done += 1
"""


async def test_no_more_messages_run_at_once_than_host_json_allows(
    make_app: MakeApp, run_host: RunHost
) -> None:
    app = make_app(_COUNTS, extensions={"serviceBus": {"maxConcurrentCalls": 6}})
    async with run_host(app) as rig:
        queue = rig.bus.queues["q"]
        for _ in range(20):
            await queue.put(b"x")
        await queue.until(lambda: len(queue.locked) == 6)
        await rig.running()
        assert (rig.app.most, len(queue.waiting)) == (6, 14)
        rig.app.gate.set()
        await queue.until(lambda: len(queue.completed) == 20)
        assert rig.app.most == 6
        assert rig.bus.most_links == 6


async def test_a_few_links_stand_ready_and_more_only_while_they_are_needed(
    make_app: MakeApp, run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "_RECEIVE_S", 0.05)
    async with run_host(make_app(_COUNTS)) as rig:
        await rig.running()
        queue = rig.bus.queues["q"]
        for _ in range(14):
            await queue.put(b"x")
        await queue.until(lambda: len(queue.locked) == 14)
        assert rig.bus.most_links >= 14
        rig.app.gate.set()
        await queue.until(lambda: len(queue.completed) == 14)
        await until(lambda: rig.bus.open_links == 4)
        await queue.put(b"x", message_id="one more")
        await queue.until(lambda: queue.completed[-1] == "one more")


_SLOW = """
entered = asyncio.Event()
gate = asyncio.Event()
@app.service_bus_queue_trigger("msg", connection="ServiceBus", queue_name="q")
async def slow(msg: func.ServiceBusMessage) -> None:
    entered.set()
    await gate.wait()
"""


async def test_a_lock_is_renewed_until_the_function_ends(
    make_app: MakeApp, run_host: RunHost
) -> None:
    bus = FakeBus()
    queue = bus.queues["q"] = FakeQueue(lock_s=0.3)
    async with run_host(make_app(_SLOW), bus=bus) as rig:
        await queue.put(b"x", message_id="long")
        await until(lambda: queue.renewals >= 4)  # longer than two locks
        rig.app.gate.set()
        await queue.until(lambda: queue.completed == ["long"])
        assert not queue.dead
        assert not queue.waiting


async def test_a_lock_is_renewed_no_longer_than_host_json_says(
    make_app: MakeApp, run_host: RunHost, caplog: pytest.LogCaptureFixture
) -> None:
    bus = FakeBus()
    queue = bus.queues["q"] = FakeQueue(lock_s=0.2, max_delivery_count=1)
    limit = {"serviceBus": {"maxAutoLockRenewalDuration": "00:00:00.3"}}
    async with run_host(make_app(_SLOW, extensions=limit), bus=bus) as rig:
        await queue.put(b"x")
        await until(lambda: queue.free_expired() or bool(queue.dead))
        rig.app.gate.set()
        assert await rig.host._invoker.drained(5)
    assert not queue.completed
    assert "queue.lock_lost" in caplog.messages


_UNSETTLED = """
seen = []
@app.service_bus_queue_trigger(
    "msg", connection="ServiceBus", queue_name="q", auto_complete_messages=False)
async def leave(msg: func.ServiceBusMessage) -> None:
    seen.append(msg.delivery_count)
    if msg.get_body() == b"bad":
        raise RuntimeError
"""


async def test_without_auto_complete_success_settles_nothing_and_failure_still_abandons(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_UNSETTLED)) as rig:
        queue = rig.bus.queues["q"]
        await queue.put(b"good")
        await rig.running()
        await until(lambda: rig.app.seen)
        assert await rig.host._invoker.drained(5)
        assert (len(queue.locked), queue.completed) == (1, [])
        await queue.put(b"bad")
        await queue.until(lambda: queue.dead)
        assert rig.app.seen == [1, 1, 2, 3, 4, 5]


async def test_a_broker_that_comes_late_or_goes_away_is_waited_for(
    make_app: MakeApp, run_host: RunHost, caplog: pytest.LogCaptureFixture
) -> None:
    bus = FakeBus()
    bus.down = True
    queue = bus.queues["q"]
    async with run_host(make_app(_KEEP), bus=bus) as rig:
        assert (await rig.status())["state"] == "Initialized"
        bus.down = False
        await rig.running()
        bus.down = True
        await queue.told()
        await until(lambda: bus.open_links == 0)
        assert (await rig.status())["state"] == "Initialized"
        bus.down = False
        await rig.running()
        await queue.put(b"x", message_id="after")
        await queue.until(lambda: queue.completed == ["after"])
    # One line per outage, not one per attempt of every link.
    assert caplog.messages.count("queue.receiver_lost") <= 8


async def test_a_stopping_host_settles_what_runs_and_takes_nothing_more(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_SLOW)) as rig:
        queue = rig.bus.queues["q"]
        await queue.put(b"x", message_id="running")
        await rig.app.entered.wait()
        stopping = asyncio.create_task(rig.host.stop())
        await until(lambda: rig.bus.open_links == 1)
        await queue.put(b"x", message_id="late")
        rig.app.gate.set()
        await stopping
        assert queue.completed == ["running"]
        assert [m["message_id"] for m in queue.waiting] == ["late"]
        assert rig.bus.open_links == 0
        assert rig.bus.closed


async def test_a_function_over_its_time_gives_its_message_back(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_SLOW, functionTimeout="00:00:00.2")) as rig:
        queue = rig.bus.queues["q"]
        await queue.put(b"x")
        async with asyncio.timeout(10):
            await rig.recycled.wait()
        assert [m["count"] for m in queue.waiting] == [1]
        rig.app.gate.set()


_SYNC = """
import threading
seen = []
@app.service_bus_queue_trigger("msg", connection="ServiceBus", queue_name="%QUEUE%")
def plain(msg: func.ServiceBusMessage) -> None:
    logging.getLogger("app").warning("working")
    seen.append((threading.current_thread().name, msg.get_body()))
"""


async def test_a_synchronous_function_runs_in_a_thread_and_its_log_lines_name_it(
    make_app: MakeApp, run_host: RunHost, capsys: pytest.CaptureFixture[str]
) -> None:
    before, level = logging.getLogger().handlers[:], logging.getLogger().level
    logs.install(logging.INFO)
    try:
        environ = {"ServiceBus": "bus", "QUEUE": "deep"}
        async with run_host(make_app(_SYNC), environ=environ) as rig:
            queue = rig.bus.queues["deep"]
            await queue.put(b"x")
            await queue.until(lambda: queue.completed)
            thread, body = rig.app.seen[0]
            assert (thread != "MainThread", body) == (True, b"x")
    finally:
        logging.getLogger().handlers[:] = before
        logging.getLogger().setLevel(level)
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    working = next(line for line in lines if line["event"] == "working")
    succeeded = next(line for line in lines if line["event"] == "invocation.succeeded")
    assert working["function"] == succeeded["function"] == "plain"
    assert working["invocation"] == succeeded["invocation"]
    assert succeeded["took_ms"] >= 0


async def test_an_admin_call_runs_a_queue_function_with_the_given_body(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_KEEP)) as rig:
        await rig.running()
        answer = await rig.client.post(
            rig.url("/admin/functions/keep"),
            json={"input": "by hand"},
            headers={"x-functions-key": MASTER_KEY},
        )
        assert answer.status == 202
        assert await rig.host._invoker.drained(5)
        assert rig.app.seen[0][0].get_body() == b"by hand"
        assert not rig.bus.queues["q"].completed
