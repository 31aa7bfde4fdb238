"""Functions of cardinality many: an in-memory bus, the real worker library."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from tests.local.functions_host.fakes import FakeBus, FakeQueue
from tests.local.functions_host.rig import MASTER_KEY, MakeApp, RunHost, until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

_APP = """
batches = []
entered = asyncio.Event()
gate = asyncio.Event()
gate.set()
@app.service_bus_queue_trigger(
    "msgs", connection="ServiceBus", queue_name="q", cardinality=func.Cardinality.MANY%s)
async def many(msgs: List[func.ServiceBusMessage]) -> None:
    batches.append(msgs)
    entered.set()
    await gate.wait()
    if any(one.get_body() == b"bad" for one in msgs):
        raise RuntimeError("one of them is bad")
"""


def _app(make_app: MakeApp, more: str = "", **bus: object) -> Path:
    return make_app(_APP % more, extensions={"serviceBus": bus})


def _bodies(batches: list[Any]) -> list[list[bytes]]:
    return [[one.get_body() for one in batch] for batch in batches]


async def test_a_batch_reaches_its_function_as_a_list_and_every_message_is_completed(
    make_app: MakeApp, run_host: RunHost
) -> None:
    bus = FakeBus()
    queue = bus.queues["q"]
    await queue.put(b"1", message_id="m-1", correlation_id="c-1", properties={"kind": "order"})
    await queue.put(b"2", message_id="m-2", subject="s", content_type="text/plain")
    await queue.put(b"3", message_id="m-3")
    async with run_host(_app(make_app), bus=bus) as rig:
        await queue.until(lambda: len(queue.completed) == 3)
        assert _bodies(rig.app.batches) == [[b"1", b"2", b"3"]]
        one, two, three = rig.app.batches[0]
        assert [m.message_id for m in (one, two, three)] == ["m-1", "m-2", "m-3"]
        assert [m.sequence_number for m in (one, two, three)] == [1, 2, 3]
        assert [m.delivery_count for m in (one, two, three)] == [1, 1, 1]
        assert (one.correlation_id, two.correlation_id) == ("c-1", None)
        assert (two.subject, two.label, two.content_type) == ("s", "s", "text/plain")
        assert one.application_properties == {"kind": "order"}
        assert three.user_properties == {}
        assert len({m.lock_token for m in (one, two, three)}) == 3
        assert one.expires_at_utc.year == 9999
        for name in ("time_to_live", "locked_until", "scheduled_enqueue_time_utc", "state"):
            assert getattr(one, name) is None, name


async def test_a_failing_batch_comes_back_whole(make_app: MakeApp, run_host: RunHost) -> None:
    bus = FakeBus()
    queue = bus.queues["q"]
    await queue.put(b"good")
    await queue.put(b"bad")
    async with run_host(_app(make_app), bus=bus) as rig:
        await queue.until(lambda: len(queue.dead) == 2)
        assert len(rig.app.batches) == queue.max_delivery_count
        assert all(len(batch) == 2 for batch in rig.app.batches)
        assert [m.delivery_count for m in rig.app.batches[-1]] == [5, 5]
        assert not queue.completed


async def test_no_batch_is_larger_than_host_json_says_and_never_two_run_at_once(
    make_app: MakeApp, run_host: RunHost
) -> None:
    bus = FakeBus()
    queue = bus.queues["q"]
    for number in range(7):
        await queue.put(b"%d" % number)
    async with run_host(_app(make_app, maxMessageBatchSize=3), bus=bus) as rig:
        await queue.until(lambda: len(queue.completed) == 7)
        assert [len(batch) for batch in rig.app.batches] == [3, 3, 1]
        rig.app.entered.clear()
        rig.app.gate.clear()
        await queue.put(b"held")
        await rig.app.entered.wait()
        await queue.put(b"late")
        await rig.running()
        assert (len(rig.app.batches), len(queue.waiting)) == (4, 1)
        rig.app.gate.set()
        await queue.until(lambda: len(queue.completed) == 9)
        assert rig.bus.most_links == 1


async def test_the_lock_of_a_batch_is_not_renewed(
    make_app: MakeApp, run_host: RunHost, caplog: pytest.LogCaptureFixture
) -> None:
    bus = FakeBus()
    queue = bus.queues["q"] = FakeQueue(lock_s=0.1, max_delivery_count=1)
    async with run_host(_app(make_app), bus=bus) as rig:
        rig.app.gate.clear()
        await queue.put(b"x")
        await rig.app.entered.wait()
        await until(lambda: queue.free_expired() or bool(queue.dead))
        rig.app.gate.set()
        await until(lambda: "queue.lock_lost" in caplog.messages)
    assert queue.renewals == 0
    assert not queue.completed


async def test_without_auto_complete_success_settles_nothing(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(_app(make_app, ", auto_complete_messages=False")) as rig:
        queue = rig.bus.queues["q"]
        await queue.put(b"good")
        await rig.app.entered.wait()
        assert await rig.host._invoker.drained(5)
        await queue.put(b"bad")
        await queue.until(lambda: queue.dead)
        assert (len(queue.locked), queue.completed) == (1, [])


async def test_fewer_than_the_least_are_held_until_enough_came(
    make_app: MakeApp, run_host: RunHost
) -> None:
    app = _app(make_app, minMessageBatchSize=3, maxBatchWaitTime="00:02:00")
    async with run_host(app) as rig:
        queue = rig.bus.queues["q"]
        for body in (b"1", b"2"):
            await queue.put(body)
            await queue.until(lambda: not queue.waiting)
        assert not rig.app.batches
        await queue.put(b"3")
        await queue.until(lambda: len(queue.completed) == 3)
        assert _bodies(rig.app.batches) == [[b"1", b"2", b"3"]]


async def test_fewer_than_the_least_are_held_no_longer_than_host_json_says(
    make_app: MakeApp, run_host: RunHost
) -> None:
    app = _app(make_app, minMessageBatchSize=3, maxBatchWaitTime="00:00:00.2")
    async with run_host(app) as rig:
        queue = rig.bus.queues["q"]
        await queue.put(b"1")
        await queue.until(lambda: queue.completed)
        assert _bodies(rig.app.batches) == [[b"1"]]


async def test_what_is_held_back_still_runs_when_the_host_stops(
    make_app: MakeApp, run_host: RunHost
) -> None:
    app = _app(make_app, minMessageBatchSize=3, maxBatchWaitTime="00:02:00")
    async with run_host(app) as rig:
        queue = rig.bus.queues["q"]
        await queue.put(b"1", message_id="held")
        await queue.until(lambda: queue.locked)
        await rig.host.stop()
        assert queue.completed == ["held"]
        assert rig.bus.open_links == 0


async def test_a_stopping_host_settles_the_batch_that_runs(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(_app(make_app)) as rig:
        queue = rig.bus.queues["q"]
        rig.app.gate.clear()
        await queue.put(b"1", message_id="running")
        await rig.app.entered.wait()
        stopping = asyncio.create_task(rig.host.stop())
        await until(lambda: rig.host.state == "Stopping")
        await queue.put(b"2", message_id="late")
        rig.app.gate.set()
        await stopping
        assert queue.completed == ["running"]
        assert [m["message_id"] for m in queue.waiting] == ["late"]


async def test_a_batch_over_its_time_is_given_back(
    make_app: MakeApp, run_host: RunHost
) -> None:
    app = make_app(_APP % "", functionTimeout="00:00:00.2")
    async with run_host(app) as rig:
        rig.app.gate.clear()
        queue = rig.bus.queues["q"]
        await queue.put(b"x")
        async with asyncio.timeout(10):
            await rig.recycled.wait()
        assert [m["count"] for m in queue.waiting] == [1]
        rig.app.gate.set()


async def test_a_broker_that_goes_away_is_waited_for(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(_app(make_app, prefetchCount=5)) as rig:
        await rig.running()
        rig.bus.down = True
        await rig.bus.queues["q"].told()
        await until(lambda: rig.bus.open_links == 0)
        assert (await rig.status())["state"] == "Initialized"
        rig.bus.down = False
        await rig.running()
        await rig.bus.queues["q"].put(b"x", message_id="after")
        await rig.bus.queues["q"].until(lambda: rig.bus.queues["q"].completed == ["after"])
        assert set(rig.bus.prefetched) == {5}


async def test_an_admin_call_runs_a_batch_function_with_one_message(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(_app(make_app)) as rig:
        answer = await rig.client.post(
            rig.url("/admin/functions/many"),
            json={"input": "by hand"},
            headers={"x-functions-key": MASTER_KEY},
        )
        assert answer.status == 202
        assert await rig.host._invoker.drained(5)
        assert _bodies(rig.app.batches) == [[b"by hand"]]


_IN_SESSIONS = ", is_sessions_enabled=True"


async def test_a_batch_holds_messages_of_one_session_and_the_next_session_follows(
    make_app: MakeApp, run_host: RunHost
) -> None:
    bus = FakeBus()
    queue = bus.queues["q"]
    for body, session in ((b"a1", "a"), (b"b1", "b"), (b"a2", "a"), (b"b2", "b")):
        await queue.put(body, session_id=session)
    app = _app(make_app, _IN_SESSIONS, sessionIdleTimeout="00:00:00.1")
    async with run_host(app, bus=bus) as rig:
        await queue.until(lambda: len(queue.completed) == 4)
        assert _bodies(rig.app.batches) == [[b"a1", b"a2"], [b"b1", b"b2"]]
        assert {m.session_id for m in rig.app.batches[0]} == {"a"}
        await queue.until(lambda: not queue.sessions)  # an idle session is let go


async def test_what_a_session_holds_back_runs_when_it_has_no_more(
    make_app: MakeApp, run_host: RunHost
) -> None:
    app = _app(
        make_app,
        _IN_SESSIONS,
        sessionIdleTimeout="00:00:00.1",
        minMessageBatchSize=5,
        maxBatchWaitTime="00:02:00",
    )
    async with run_host(app) as rig:
        queue = rig.bus.queues["q"]
        await queue.put(b"a1", session_id="a")
        await queue.until(lambda: queue.completed)
        assert _bodies(rig.app.batches) == [[b"a1"]]


async def test_a_session_lost_under_a_batch_goes_on_in_the_next(
    make_app: MakeApp, run_host: RunHost, caplog: pytest.LogCaptureFixture
) -> None:
    bus = FakeBus()
    queue = bus.queues["q"] = FakeQueue(lock_s=0.15)
    async with run_host(_app(make_app, _IN_SESSIONS), bus=bus) as rig:
        rig.app.gate.clear()
        await queue.put(b"a1", session_id="a")
        await rig.app.entered.wait()
        await until(lambda: queue.free_expired() or bool(queue.waiting))
        rig.app.gate.set()
        await queue.until(lambda: queue.completed)
        assert [m.delivery_count for batch in rig.app.batches for m in batch] == [1, 2]
    assert "queue.lock_lost" in caplog.messages
