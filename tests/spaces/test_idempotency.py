"""A request that a slow process gives up leaves alone what another has finished in its place."""

from __future__ import annotations

import pytest

from spaces import idempotency
from spaces.errors import TransientError
from tests.fakes import fake_ports


async def test_a_failure_after_a_take_over_keeps_the_answer_of_the_other() -> None:
    ports = fake_ports()

    async def good() -> idempotency.Stored:
        return idempotency.Stored(status=201, text='{"from":"the second"}')

    async def slow_and_bad() -> idempotency.Stored:
        ports.clock.advance(31)  # pyright: ignore[reportAttributeAccessIssue]
        await idempotency.once(ports, scope="s", key="k", raw=b"{}", answer=good)
        raise TransientError("away")

    with pytest.raises(TransientError):
        await idempotency.once(ports, scope="s", key="k", raw=b"{}", answer=slow_and_bad)
    stored = await idempotency.once(ports, scope="s", key="k", raw=b"{}", answer=slow_and_bad)
    assert (stored.replayed, stored.text) == (True, '{"from":"the second"}')


async def test_a_failure_lets_the_next_request_begin_at_once() -> None:
    ports = fake_ports()

    async def bad() -> idempotency.Stored:
        raise TransientError("away")

    async def good() -> idempotency.Stored:
        return idempotency.Stored(status=201, text="{}")

    with pytest.raises(TransientError):
        await idempotency.once(ports, scope="s", key="k", raw=b"{}", answer=bad)
    stored = await idempotency.once(ports, scope="s", key="k", raw=b"{}", answer=good)
    assert (stored.status, stored.replayed) == (201, False)
