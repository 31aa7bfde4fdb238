"""Campaigns over the product's core: many seeds, several workers, faults at every port call."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import spaces.saga.sweep
from spaces.ports import Insert, Put, Replace
from spaces.saga import runner
from tests.provisioning.campaign import Campaign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from spaces.ports import Ports, Write

QUICK = 250
SOAK = 30_000
# Seeds in which a known-bad variant must have been found; each needs far fewer.
ENOUGH = 400


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of warnings are what a bad day is made of."""
    logging.disable(logging.ERROR)
    yield
    logging.disable(logging.NOTSET)


async def run(
    seeds: range,
    *,
    wrap: Callable[[Ports], Ports] | None = None,
    sweeper: bool = True,
) -> None:
    for seed in seeds:
        try:
            await Campaign(seed, wrap=wrap, sweeper=sweeper).run()
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise


async def test_orders_end_well_on_many_bad_days() -> None:
    await run(range(QUICK))


async def test_without_lost_messages_nobody_needs_the_sweeper() -> None:
    await run(range(QUICK // 3), sweeper=False)


@pytest.mark.soak
@pytest.mark.parametrize("part", range(10))
async def test_orders_end_well_on_very_many_bad_days(part: int) -> None:
    each = SOAK // 10
    await run(range(QUICK + part * each, QUICK + (part + 1) * each))


async def test_the_same_seed_is_the_same_run() -> None:
    traces: list[list[str]] = []
    for _ in range(2):
        campaign = Campaign(80)
        await campaign.run()
        traces.append(campaign.trace)
    assert traces[0] == traces[1]
    assert len(traces[0]) > 100


async def test_the_days_hold_every_fault_and_every_end() -> None:
    """A campaign that never crashes, or never fails an order, would prove nothing."""
    seen: set[str] = set()
    for seed in range(60):
        campaign = Campaign(seed)
        await campaign.run()
        seen |= {line.removeprefix("** ") for line in campaign.trace if line.startswith("** ")}
        for word in ("throttled", "transient", "unsure", "repeated"):
            if any(f" {word}" in line for line in campaign.trace):
                seen.add(word)
        for ordered in campaign.orders:
            loaded = await campaign.registry.load(ordered.space_id)
            seen.add(loaded.space.status.value if loaded else "refused")
    assert seen >= {
        *("crashes", "lost_locks", "lost_messages", "late_deliveries", "sweeps", "outages"),
        *("throttled", "transient", "unsure", "repeated"),
        *("active", "failed", "requested"),
    }


# --- known-bad variants: each must be found (control-plane.md 4.2)


class _Rewriting:
    """Tables whose transactions on spaces lose the guard that a control takes away."""

    def __init__(self, tables: Any, rewrite: Callable[[Write], Write | None]) -> None:
        self._tables = tables
        self._rewrite = rewrite

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)

    async def commit(self, table: str, partition: str, writes: Sequence[Write]) -> None:
        if table == "spaces":
            writes = [done for write in writes if (done := self._rewrite(write)) is not None]
        await self._tables.commit(table, partition, writes)


def rewriting(rewrite: Callable[[Write], Write | None]) -> Callable[[Ports], Ports]:
    return lambda ports: replace(ports, tables=_Rewriting(ports.tables, rewrite))


def without_if_match(write: Write) -> Write | None:
    """Blind writes: the audit's number and the inbox are guards of their own, so they go too."""
    if isinstance(write, Replace):
        return Put(write.key, write.values)
    if isinstance(write, Insert) and write.key.startswith("aud!"):
        return None
    if isinstance(write, Insert) and write.key.startswith("in!"):
        return Insert(f"{write.key}{id(write)}", write.values)
    return write


def without_outbox(write: Write) -> Write | None:
    return None if write.key == "out!next" else write


def without_events_in_the_outbox(write: Write) -> Write | None:
    return None if write.key.startswith("out!ev!") else write


async def found(*, wrap: Callable[[Ports], Ports] | None = None, sweeper: bool = True) -> None:
    with pytest.raises(AssertionError):
        await run(range(ENOUGH), wrap=wrap, sweeper=sweeper)


@pytest.mark.parametrize(
    "rewrite", [without_if_match, without_outbox, without_events_in_the_outbox]
)
async def test_a_protocol_without_one_of_its_rows_is_found(
    rewrite: Callable[[Write], Write | None],
) -> None:
    await found(wrap=rewriting(rewrite))


async def test_a_resend_under_the_same_id_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        spaces.saga.sweep, "fresh", lambda message, now, grace_s: replace(message, due_at=None)
    )
    await found()


async def test_old_messages_that_are_dropped_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def dropped(*args: object) -> None:
        del args

    monkeypatch.setattr(runner, "say_again", dropped)
    await found(sweeper=False)


async def test_no_sweeper_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nobody(*args: object) -> int:
        del args
        return 0

    monkeypatch.setattr(spaces.saga.sweep, "_see_to", nobody)
    await found()
