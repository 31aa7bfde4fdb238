"""Functions of queues with sessions: an in-memory bus, the real worker library."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.local.functions_host.fakes import FakeBus, FakeQueue
from tests.local.functions_host.rig import MakeApp, RunHost, until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

_APP = """
seen = []
now = {}
most_per_session = most_sessions = 0
entered = asyncio.Event()
gate = asyncio.Event()
gate.set()
@app.service_bus_queue_trigger(
    "msg", connection="ServiceBus", queue_name="q", is_sessions_enabled=True)
async def work(msg: func.ServiceBusMessage) -> None:
    global most_per_session, most_sessions
    session, body = msg.session_id, msg.get_body().decode()
    now[session] = now.get(session, 0) + 1
    most_per_session = max(most_per_session, now[session])
    most_sessions = max(most_sessions, len(now))
    seen.append((session, body, msg.delivery_count))
    entered.set()
    try:
        await gate.wait()
        if body == "poison" or body == "once" and msg.delivery_count == 1:
            raise RuntimeError(body)
    finally:
        now[session] -= 1
        if not now[session]:
            del now[session]
"""
_QUICK = "00:00:00.1"


def _app(make_app: MakeApp, **bus: object) -> Path:
    return make_app(_APP, extensions={"serviceBus": {"sessionIdleTimeout": _QUICK, **bus}})


async def test_each_session_runs_in_its_order_one_message_at_a_time(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(_app(make_app)) as rig:
        queue = rig.bus.queues["q"]
        for number in range(4):
            for session in "abc":
                await queue.put(b"%d" % number, session_id=session)
        await queue.until(lambda: len(queue.completed) == 12)
        for session in "abc":
            bodies = [body for of, body, _ in rig.app.seen if of == session]
            assert bodies == ["0", "1", "2", "3"], session
        assert rig.app.most_per_session == 1


async def test_no_more_sessions_run_at_once_than_host_json_allows(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(_app(make_app, maxConcurrentSessions=2)) as rig:
        queue = rig.bus.queues["q"]
        rig.app.gate.clear()
        for session in "abcde":
            await queue.put(b"x", session_id=session)
        await until(lambda: len(rig.app.now) == 2)
        await rig.running()
        assert len(queue.sessions) == 2
        rig.app.gate.set()
        await queue.until(lambda: len(queue.completed) == 5)  # idle sessions make room
        assert rig.app.most_sessions == 2
        assert rig.bus.most_links == 2


async def test_a_failing_message_holds_up_its_session_alone_until_it_is_dead(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(_app(make_app)) as rig:
        queue = rig.bus.queues["q"]
        queue.max_delivery_count = 3
        for session, body in (("a", b"poison"), ("a", b"after"), ("b", b"free")):
            await queue.put(body, session_id=session)
        await queue.until(lambda: len(queue.completed) == 2)
        of_a = [(body, count) for of, body, count in rig.app.seen if of == "a"]
        assert of_a == [("poison", 1), ("poison", 2), ("poison", 3), ("after", 1)]
        assert [one["body"] for one in queue.dead] == [b"poison"]


async def test_a_session_is_renewed_while_a_function_runs_and_while_it_waits(
    make_app: MakeApp, run_host: RunHost
) -> None:
    bus = FakeBus()
    queue = bus.queues["q"] = FakeQueue(lock_s=0.2)
    async with run_host(_app(make_app, sessionIdleTimeout="00:00:30"), bus=bus) as rig:
        rig.app.gate.clear()
        await queue.put(b"long", session_id="a")
        await rig.app.entered.wait()
        await until(lambda: queue.session_renewals >= 4)  # longer than two locks
        rig.app.gate.set()
        await queue.until(lambda: len(queue.completed) == 1)
        before = queue.session_renewals
        await until(lambda: queue.session_renewals >= before + 4)
        await queue.put(b"next", session_id="a")
        await queue.until(lambda: len(queue.completed) == 2)
        assert [count for _, _, count in rig.app.seen] == [1, 1]


async def test_a_session_is_renewed_no_longer_than_host_json_says(
    make_app: MakeApp, run_host: RunHost, caplog: pytest.LogCaptureFixture
) -> None:
    bus = FakeBus()
    queue = bus.queues["q"] = FakeQueue(lock_s=0.2)
    app = _app(make_app, maxAutoLockRenewalDuration="00:00:00.3", sessionIdleTimeout="00:01:00")
    async with run_host(app, bus=bus) as rig:
        rig.app.gate.clear()
        await queue.put(b"x", session_id="a")
        await rig.app.entered.wait()
        # Another slot gets the session, and with it the message, while the first still runs.
        await until(lambda: len(rig.app.seen) == 2)
        rig.app.gate.set()
        await queue.until(lambda: queue.completed)
        assert [count for _, _, count in rig.app.seen][:2] == [1, 2]
    assert "queue.lock_lost" in caplog.messages
    assert "queue.session_lost" in caplog.messages


async def test_a_host_without_work_is_running_once_the_broker_answered(
    make_app: MakeApp, run_host: RunHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("local.functions_host.queues.sessions._FIRST_ACCEPT_S", 0.05)
    bus = FakeBus()
    bus.down = True
    queue = bus.queues["q"]
    async with run_host(_app(make_app), bus=bus) as rig:
        assert (await rig.status())["state"] == "Initialized"
        bus.down = False
        await rig.running()
        bus.down = True
        await queue.told()
        await until(lambda: rig.host.state == "Initialized")
        bus.down = False
        await rig.running()
        await queue.put(b"x", message_id="after", session_id="a")
        await queue.until(lambda: queue.completed == ["after"])


async def test_a_stopping_host_settles_what_runs_and_lets_its_sessions_go(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(_app(make_app)) as rig:
        queue = rig.bus.queues["q"]
        rig.app.gate.clear()
        await queue.put(b"1", session_id="a", message_id="running")
        await queue.put(b"2", session_id="a", message_id="late")
        await rig.app.entered.wait()
        stopping = asyncio.create_task(rig.host.stop())
        await until(lambda: rig.host.state == "Stopping")
        rig.app.gate.set()
        await stopping
        assert queue.completed == ["running"]
        assert [(m["message_id"], m["count"]) for m in queue.waiting] == [("late", 0)]
        assert (queue.sessions, rig.bus.open_links) == ({}, 0)


async def test_prefetch_is_asked_of_every_session(make_app: MakeApp, run_host: RunHost) -> None:
    async with run_host(_app(make_app, prefetchCount=7)) as rig:
        await rig.bus.queues["q"].put(b"x", session_id="a")
        await rig.bus.queues["q"].until(lambda: rig.bus.queues["q"].completed)
        assert set(rig.bus.prefetched) == {7}
