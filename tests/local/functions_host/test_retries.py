"""Retry policies: their delays, timers that obey them, and what the host says of others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local.functions_host.retries import RetryPolicy, read_policy
from local.functions_host.timers.status import Status
from tests.local.functions_host.fakes import FakeClock, FakeQueue
from tests.local.functions_host.rig import MASTER_KEY, SETTINGS, MakeApp, RunHost, until

if TYPE_CHECKING:
    from collections.abc import Callable


def _middle(low: float, high: float) -> float:
    return (low + high) / 2


def _exponential(least_s: float, most_s: float) -> RetryPolicy:
    return RetryPolicy(max_count=5, is_exponential=True, least_s=least_s, most_s=most_s)


def test_a_fixed_delay_stays_the_same() -> None:
    policy = RetryPolicy(max_count=3, is_exponential=False, least_s=5, most_s=5)
    assert [policy.delay_s(retry) for retry in (1, 2, 9)] == [5, 5, 5]


def test_an_exponential_delay_doubles_what_it_adds_up_to_its_maximum() -> None:
    policy = _exponential(4, 30)
    delays = [policy.delay_s(retry, spread=_middle) for retry in range(1, 7)]
    assert delays == [4, 8, 12, 20, 30, 30]


@given(st.floats(0, 3600), st.floats(0, 3600), st.integers(1, 10_000))
def test_no_delay_is_outside_its_bounds(least_s: float, more_s: float, retry: int) -> None:
    policy = _exponential(least_s, least_s + more_s)
    assert least_s <= policy.delay_s(retry) <= least_s + more_s


def test_minus_one_allows_retries_for_ever() -> None:
    assert RetryPolicy(max_count=-1, is_exponential=False, least_s=1, most_s=1).allows(10**6)
    three = RetryPolicy(max_count=3, is_exponential=False, least_s=1, most_s=1)
    assert (three.allows(3), three.allows(4)) == (True, False)


def test_an_interval_that_ends_before_it_begins_is_refused() -> None:
    options = SimpleNamespace(
        retry_strategy="exponential_backoff",
        max_retry_count=2,
        minimum_interval=timedelta(seconds=10),
        maximum_interval=timedelta(seconds=5),
    )
    with pytest.raises(ValueError, match="minimum_interval"):
        read_policy(options)


_TWO = datetime(2026, 11, 24, 2, 0, tzinfo=UTC)
_TIMER = """
tries = []
good_from = 99
@app.timer_trigger("timer", schedule="0 0 2 * * *")
@app.retry(%s)
async def nightly(timer: func.TimerRequest, context: func.Context) -> None:
    retry = context.retry_context
    tries.append((retry.retry_count, retry.max_retry_count,
        retry.rpc_exception and retry.rpc_exception.message))
    if len(tries) < good_from:
        raise RuntimeError(f"try {len(tries)}")
"""
_FIXED = 'strategy="fixed_delay", max_retry_count="2", delay_interval="00:00:10"'
_GROWING = (
    'strategy="exponential_backoff", max_retry_count="-1", '
    'minimum_interval="00:00:01", maximum_interval="00:00:30"'
)


async def _fired(clock: FakeClock, tries: Callable[[], int]) -> None:
    await clock.asleep.wait()
    clock.advance(_TWO)
    await until(lambda: tries() == 1)


async def test_a_failing_timer_is_tried_again_after_its_delay_and_then_given_up(
    make_app: MakeApp, run_host: RunHost
) -> None:
    clock = FakeClock(_TWO - timedelta(hours=1))
    async with run_host(make_app(_TIMER % _FIXED), clock=clock) as rig:
        tries = rig.app.tries
        await _fired(clock, lambda: len(tries))
        for seconds, count in ((9, 1), (10, 2), (19, 2), (20, 3)):
            await clock.asleep.wait()
            clock.advance(_TWO + timedelta(seconds=seconds))
            await until(lambda count=count: len(tries) == count)
        await until(lambda: Status.from_json(rig.store.texts["nightly"]).last == _TWO)
        assert [retry for retry, *_ in tries] == [0, 1, 2]
        assert [most for _, most, _ in tries] == [2, 2, 2]
        assert tries[0][2] is None
        assert "try 1" in tries[1][2]
        assert "try 2" in tries[2][2]


async def test_a_timer_that_succeeds_is_not_tried_again(
    make_app: MakeApp, run_host: RunHost
) -> None:
    clock = FakeClock(_TWO - timedelta(hours=1))
    async with run_host(make_app(_TIMER % _GROWING), clock=clock) as rig:
        rig.app.good_from = 4
        await _fired(clock, lambda: len(rig.app.tries))
        for count in (2, 3, 4):
            await clock.asleep.wait()
            clock.advance(clock.now() + timedelta(seconds=30))
            await until(lambda count=count: len(rig.app.tries) == count)
        await until(lambda: Status.from_json(rig.store.texts["nightly"]).last is not None)
        assert [most for _, most, _ in rig.app.tries] == [-1] * 4


async def test_a_stopping_host_does_not_wait_for_the_next_try(
    make_app: MakeApp, run_host: RunHost
) -> None:
    clock = FakeClock(_TWO - timedelta(hours=1))
    async with run_host(make_app(_TIMER % _FIXED), clock=clock) as rig:
        await _fired(clock, lambda: len(rig.app.tries))
        await clock.asleep.wait()
        await rig.host.stop()
        assert len(rig.app.tries) == 1
        assert Status.from_json(rig.store.texts["nightly"]).last == _TWO


async def test_an_admin_call_runs_a_timer_once_whatever_its_policy(
    make_app: MakeApp, run_host: RunHost
) -> None:
    async with run_host(make_app(_TIMER % _FIXED), clock=FakeClock(_TWO)) as rig:
        answer = await rig.client.post(
            rig.url("/admin/functions/nightly"),
            json={"input": ""},
            headers={"x-functions-key": MASTER_KEY},
        )
        assert answer.status == 202
        assert await rig.host._invoker.drained(5)
        assert rig.app.tries == [(0, 0, None)]


_QUEUE = """
tries = []
@app.service_bus_queue_trigger("msg", connection="ServiceBus", queue_name="q")
@app.retry(strategy="fixed_delay", max_retry_count="3", delay_interval="00:10:00")
async def eats(msg: func.ServiceBusMessage) -> None:
    tries.append(msg.delivery_count)
    raise RuntimeError("indigestible")
"""


async def test_a_service_bus_function_is_retried_by_redelivery_and_the_host_says_so(
    make_app: MakeApp, run_host: RunHost, caplog: pytest.LogCaptureFixture
) -> None:
    async with run_host(make_app(_QUEUE)) as rig:
        queue: FakeQueue = rig.bus.queues["q"]
        await queue.put(b"x")
        await queue.until(lambda: queue.dead)
        assert rig.app.tries == [1, 2, 3, 4, 5]
    said = next(r for r in caplog.records if r.message == "function.retry_policy_ignored")
    assert said.__dict__["function"] == "eats"


async def test_what_makes_no_difference_is_said_once(
    make_app: MakeApp, run_host: RunHost, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app(
        _QUEUE,
        extensions={"serviceBus": {"prefetchCount": 20, "maxConcurrentCalls": 3}},
        concurrency={"dynamicConcurrencyEnabled": True},
    )
    async with run_host(app, environ=SETTINGS):
        pass
    said = {record.message: record.__dict__ for record in caplog.records}
    assert said["host.concurrency_is_fixed"]["max_concurrent_calls"] == 3
    assert said["host.nothing_prefetched"]["functions"] == ["eats"]
