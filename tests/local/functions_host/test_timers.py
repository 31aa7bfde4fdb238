"""Timer functions: a clock that jumps, the real worker library."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from local.functions_host.timers.status import Status
from tests.local.functions_host.fakes import FakeClock, FakeStore
from tests.local.functions_host.rig import MASTER_KEY, MakeApp, Rig, RunHost, until

_TWO = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
_DAY = timedelta(days=1)
_NIGHTLY = """
ticks = []
gate = asyncio.Event()
gate.set()
@app.timer_trigger("timer", schedule="%NIGHT%")
async def nightly(timer: func.TimerRequest) -> None:
    ticks.append((timer.past_due, timer.schedule_status))
    await gate.wait()
    if len(ticks) == 1:
        raise RuntimeError("the first night fails")
"""
_ENVIRON = {"AzureWebJobsStorage": "storage", "NIGHT": "0 0 2 * * *"}


async def _ticked(rig: Rig, count: int) -> None:
    await until(lambda: len(rig.app.ticks) >= count)


async def _stored(store: FakeStore, last: datetime | None) -> Status:
    async with asyncio.timeout(10), store.written:
        await store.written.wait_for(
            lambda: (
                "nightly" in store.texts
                and Status.from_json(store.texts["nightly"]).last == last
            )
        )
    return Status.from_json(store.texts["nightly"])


async def test_a_timer_fires_at_its_times_and_a_failure_does_not_stop_it(
    make_app: MakeApp, run_host: RunHost
) -> None:
    clock = FakeClock(_TWO - timedelta(hours=1))
    async with run_host(make_app(_NIGHTLY), clock=clock, environ=_ENVIRON) as rig:
        assert (await _stored(rig.store, None)).following == _TWO
        await clock.asleep.wait()
        assert not rig.app.ticks
        clock.advance(_TWO)
        assert (await _stored(rig.store, _TWO)).following == _TWO + _DAY
        await clock.asleep.wait()
        clock.advance(_TWO + _DAY)
        await _stored(rig.store, _TWO + _DAY)
        assert [past_due for past_due, _ in rig.app.ticks] == [False, False]
        status = rig.app.ticks[1][1]
        assert datetime.fromisoformat(status["Last"]) == _TWO
        assert datetime.fromisoformat(status["Next"]) == _TWO + _DAY


async def test_nights_missed_while_the_host_was_off_fire_once_past_due(
    make_app: MakeApp, run_host: RunHost
) -> None:
    store = FakeStore()
    store.texts["nightly"] = Status(last=_TWO, following=_TWO + _DAY, updated=_TWO).to_json()
    now = _TWO + 3 * _DAY + timedelta(hours=1)
    clock = FakeClock(now)
    async with run_host(make_app(_NIGHTLY), clock=clock, environ=_ENVIRON, store=store) as rig:
        await _ticked(rig, 1)
        await clock.asleep.wait()
        assert [past_due for past_due, _ in rig.app.ticks] == [True]
        assert (await _stored(store, now)).following == _TWO + 4 * _DAY


async def test_a_run_longer_than_the_interval_skips_what_it_covered(
    make_app: MakeApp, run_host: RunHost
) -> None:
    clock = FakeClock(_TWO - timedelta(hours=1))
    async with run_host(make_app(_NIGHTLY), clock=clock, environ=_ENVIRON) as rig:
        await clock.asleep.wait()
        rig.app.gate.clear()
        clock.advance(_TWO)
        await _ticked(rig, 1)
        clock.advance(_TWO + 2.5 * _DAY)
        rig.app.gate.set()
        await clock.asleep.wait()
        assert len(rig.app.ticks) == 1
        clock.advance(_TWO + 3 * _DAY)
        await _ticked(rig, 2)


async def test_a_timer_waits_for_its_store_before_anything_fires(
    make_app: MakeApp, run_host: RunHost
) -> None:
    store = FakeStore()
    store.texts["nightly"] = Status(last=_TWO, following=_TWO + _DAY, updated=_TWO).to_json()
    store.down = True
    clock = FakeClock(_TWO + 2 * _DAY)
    async with run_host(make_app(_NIGHTLY), clock=clock, environ=_ENVIRON, store=store) as rig:
        assert (await rig.status())["state"] == "Initialized"
        assert not rig.app.ticks
        store.down = False
        await _ticked(rig, 1)
        assert (await rig.status())["state"] == "Running"


async def test_a_stopping_host_records_the_run_it_waited_for(
    make_app: MakeApp, run_host: RunHost
) -> None:
    clock = FakeClock(_TWO - timedelta(hours=1))
    async with run_host(make_app(_NIGHTLY), clock=clock, environ=_ENVIRON) as rig:
        await clock.asleep.wait()
        rig.app.gate.clear()
        clock.advance(_TWO)
        await _ticked(rig, 1)
        stopping = asyncio.create_task(rig.host.stop())
        await asyncio.sleep(0)
        rig.app.gate.set()
        await stopping
        assert Status.from_json(rig.store.texts["nightly"]).last == _TWO


_EAGER = """
ticks = []
@app.timer_trigger("timer", schedule="*/15 * * * * *", run_on_startup=True)
def eager(timer: func.TimerRequest) -> None:
    ticks.append(timer.past_due)
"""


async def test_a_fast_timer_keeps_no_status_and_run_on_startup_fires_at_once(
    make_app: MakeApp, run_host: RunHost
) -> None:
    clock = FakeClock(_TWO)
    async with run_host(make_app(_EAGER), clock=clock, environ={}) as rig:
        await _ticked(rig, 1)
        await clock.asleep.wait()
        clock.advance(_TWO + timedelta(seconds=15))
        await _ticked(rig, 2)
        assert rig.app.ticks == [False, False]
        assert not rig.store.texts


async def test_an_admin_call_runs_a_timer_at_once_and_leaves_its_schedule_alone(
    make_app: MakeApp, run_host: RunHost
) -> None:
    clock = FakeClock(_TWO - timedelta(hours=1))
    async with run_host(make_app(_NIGHTLY), clock=clock, environ=_ENVIRON) as rig:
        await clock.asleep.wait()
        before = rig.store.texts["nightly"]
        rig.app.gate.clear()
        answer = await rig.client.post(
            rig.url("/admin/functions/NIGHTLY"),
            json={"input": ""},
            headers={"x-functions-key": MASTER_KEY},
        )
        assert answer.status == 202
        await _ticked(rig, 1)  # the answer came before the function ended
        rig.app.gate.set()
        assert await rig.host._invoker.drained(5)
        assert [past_due for past_due, _ in rig.app.ticks] == [False]
        assert rig.store.texts["nightly"] == before


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("nightly", b"{}", 400),
        ("nightly", b"", 400),
        ("nightly", b"[]", 400),
        ("nobody", b'{"input": ""}', 404),
    ],
)
async def test_an_admin_call_that_makes_no_sense_runs_nothing(
    make_app: MakeApp, run_host: RunHost, path: str, body: bytes, status: int
) -> None:
    clock = FakeClock(_TWO - timedelta(hours=1))
    async with run_host(make_app(_NIGHTLY), clock=clock, environ=_ENVIRON) as rig:
        await rig.running()
        answer = await rig.client.post(
            rig.url(f"/admin/functions/{path}"),
            data=body,
            headers={"x-functions-key": MASTER_KEY},
        )
        assert answer.status == status
        assert not rig.app.ticks
