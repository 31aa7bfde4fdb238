"""Campaigns over the product's core: many seeds, several workers, faults at every port call."""

from __future__ import annotations

from tests.provisioning.campaign import Campaign


async def run(seeds: range) -> None:
    for seed in seeds:
        try:
            await Campaign(seed).run()
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise


async def test_orders_end_well_on_many_bad_days() -> None:
    await run(range(300))
