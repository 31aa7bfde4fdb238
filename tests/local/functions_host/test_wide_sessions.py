"""Several messages of one session at a time: an in-memory bus, the real worker library."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.local.functions_host.rig import MakeApp, RunHost, until

if TYPE_CHECKING:
    from pathlib import Path

_APP = """
seen = []
now = most = 0
gate = asyncio.Event()
@app.service_bus_queue_trigger(
    "msg", connection="ServiceBus", queue_name="q", is_sessions_enabled=True)
async def work(msg: func.ServiceBusMessage) -> None:
    global now, most
    body = msg.get_body().decode()
    seen.append((msg.session_id, body, msg.delivery_count))
    now += 1
    most = max(most, now)
    try:
        if body != "free":
            await gate.wait()
        if body == "once" and msg.delivery_count == 1:
            raise RuntimeError(body)
    finally:
        now -= 1
"""


def _app(make_app: MakeApp, **bus: object) -> Path:
    settings = {"sessionIdleTimeout": "00:00:00.3", "maxConcurrentCallsPerSession": 3, **bus}
    return make_app(_APP, extensions={"serviceBus": settings})


async def test_as_many_as_allowed_of_one_session_run_and_no_more(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(_app(make_app)) as rig:
        queue = rig.bus.queues["q"]
        for number in range(7):
            await queue.put(b"%d" % number, session_id="a")
        await until(lambda: rig.app.now == 3)
        assert [body for _, body, _ in rig.app.seen] == ["0", "1", "2"]
        rig.app.gate.set()
        await queue.until(lambda: len(queue.completed) == 7)
        assert rig.app.most == 3
        assert [body for _, body, _ in rig.app.seen] == [str(n) for n in range(7)]


async def test_what_is_done_is_settled_while_others_run_and_the_lock_is_kept(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(_app(make_app)) as rig:
        queue = rig.bus.queues["q"]
        queue.lock_s = 0.6
        await queue.put(b"slow", session_id="a")
        await queue.put(b"free", session_id="a")
        await queue.until(lambda: len(queue.completed) == 1)
        assert rig.app.now == 1
        await until(lambda: queue.session_renewals >= 2)
        rig.app.gate.set()
        await queue.until(lambda: len(queue.completed) == 2)
        assert [count for _, _, count in rig.app.seen] == [1, 1]


async def test_a_failed_message_comes_again_and_others_do_not_wait_for_it(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(_app(make_app)) as rig:
        queue = rig.bus.queues["q"]
        rig.app.gate.set()
        for body in (b"once", b"free", b"free"):
            await queue.put(body, session_id="a")
        await queue.until(lambda: len(queue.completed) == 3)
        assert ("a", "once", 2) in rig.app.seen


async def test_an_idle_session_is_let_go_and_a_stop_lets_what_runs_finish(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(_app(make_app, maxConcurrentSessions=1)) as rig:
        queue = rig.bus.queues["q"]
        await queue.put(b"free", session_id="a")
        await queue.until(lambda: len(queue.completed) == 1)
        await queue.put(b"free", session_id="b")
        await queue.until(lambda: len(queue.completed) == 2)
        await queue.put(b"slow", session_id="b")
        await until(lambda: rig.app.now == 1)
        stop = asyncio.create_task(rig.host.stop(5))
        await asyncio.sleep(0)
        rig.app.gate.set()
        await stop
        assert len(queue.completed) == 3


async def test_a_lost_session_is_taken_again_with_what_was_not_settled(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(_app(make_app)) as rig:
        queue = rig.bus.queues["q"]
        await queue.put(b"slow", session_id="a")
        await until(lambda: rig.app.now == 1)
        queue.sessions["a"][0].lose()
        queue.sessions.pop("a")
        queue.waiting.extend(message for message, _ in queue.locked.values())
        queue.locked.clear()
        rig.app.gate.set()
        await queue.until(lambda: len(queue.completed) == 1)
        assert len(rig.app.seen) == 2
