"""A paid event to a URL that answers, cold, one space at a time, and where the time goes.

Cold: no process, server or account was made for the space before. Beside each opening the same
things are made by hand with the stack's own building blocks, without control plane and Resource
Manager: account, vault, database server from a fresh initdb, role, database, container, two
instances. What an opening takes longer is the price of doing it by messages, durably.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

from bench import kit
from bench.by_hand import ByHand
from bench.customers import COUNTRIES, Customers
from bench.kit import Figure
from bench.stack import running

if TYPE_CHECKING:
    from local.home import Home

SPACES = 12
GOAL_S = 5.0


def measure() -> list[Figure]:
    """Openings and the same by hand, in turn, on one stack."""
    with running() as stack:
        return asyncio.run(_measure(stack.home))


async def _measure(home: Home) -> list[Figure]:
    answered: list[float] = []
    active: list[float] = []
    shares: dict[str, list[float]] = {}
    plain: list[float] = []
    parts: dict[str, list[float]] = {}
    async with Customers(home) as customers, ByHand(home) as by_hand:
        for number in range(SPACES):
            country = COUNTRIES[number % len(COUNTRIES)]
            order = await customers.order(f"bench-{number}", plan="standard", country=country)
            began, told = time.monotonic(), time.time()
            await customers.pay(order)
            answered.append(await customers.until_answering(order["url"]) - began)
            await customers.until_active(order)
            operation = await customers.operation(order["space_id"], "provision")
            active.append(_at(operation["ended_at"]) - told)
            for name, took in _shares(operation, told).items():
                shares.setdefault(name, []).append(took)
            made = await by_hand.make(f"hand-{number}")
            await by_hand.remove(f"hand-{number}")
            plain.append(sum(made.values()))
            for name, took in made.items():
                parts.setdefault(name, []).append(took)
    return [
        *_openings("paid event to URL answering", answered),
        *_openings("paid event to active, all zones proven", active),
        *_steps(shares, kit.median(active)),
        Figure(
            "the same by hand (baseline), median",
            kit.median(plain),
            "s",
            note=f"{kit.spread(plain, 's')}: "
            + ", ".join(
                f"{name} {kit.number(kit.median(took))}" for name, took in parts.items()
            ),
        ),
        Figure(
            "answering, to by hand",
            kit.median([one / hand for one, hand in zip(answered, plain, strict=True)]),
            "times",
        ),
    ]


def _openings(name: str, took: list[float]) -> list[Figure]:
    return [
        Figure(
            f"{name}, p50",
            kit.median(took),
            "s",
            GOAL_S,
            at_least=False,
            note=f"{kit.spread(took, 's')}; the first {kit.number(took[0])}",
        ),
        Figure(f"{name}, p95", kit.quantile(took, 0.95), "s"),
    ]


def _steps(shares: dict[str, list[float]], whole: float) -> list[Figure]:
    return [
        Figure(
            f"… {name}",
            kit.median(took),
            "s",
            note=f"{100 * kit.median(took) / whole:.0f} % of the way to active",
        )
        for name, took in shares.items()
    ]


def _shares(operation: dict[str, Any], told: float) -> dict[str, float]:
    """Seconds of each step, and of what lies before the first: the event's way into the rows."""
    steps = operation["steps"]
    found = {"before the first step": _at(steps[0]["started_at"]) - told}
    for step in steps:
        found[f"step {step['name']}"] = _at(step["ended_at"]) - _at(step["started_at"])
    return found


def _at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
