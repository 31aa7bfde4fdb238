"""Twenty orders at once: until all are active, and that none was made twice."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any

import aiohttp

from bench import kit
from bench.by_hand import ByHand
from bench.customers import COUNTRIES, Customers
from bench.kit import Figure
from bench.stack import running

if TYPE_CHECKING:
    from local.home import Home

ORDERS = 20
GOAL_S = 120.0
_LOOK_S = 0.5


def measure() -> list[Figure]:
    """One crowd on a fresh stack."""
    with running() as stack:
        return asyncio.run(_measure(stack.home))


async def _measure(home: Home) -> list[Figure]:
    async with Customers(home) as customers:
        # One opening first: imports and links of the app are not what twenty at once is about.
        await customers.open_space("first", plan="starter")
        began = time.monotonic()
        orders = await asyncio.gather(
            *(
                customers.order(
                    f"crowd-{at}", plan="standard", country=COUNTRIES[at % len(COUNTRIES)]
                )
                for at in range(ORDERS)
            )
        )
        ordered, began = time.monotonic() - began, time.monotonic()
        told = time.time()
        await customers.pay(*orders)
        await _all_active(customers, orders)
        took = time.monotonic() - began
        answering = await asyncio.gather(*(customers.answers(one["url"]) for one in orders))
        operations = await asyncio.gather(*(_operations(customers, one) for one in orders))
        ended = [
            datetime.fromisoformat(one[0]["ended_at"]).timestamp() - told for one in operations
        ]
        twice = await _made_otherwise(home, orders) + sum(len(one) - 1 for one in operations)
    by_hand = await _by_hand_s(home)
    return [
        Figure(f"{ORDERS} orders placed at once", ordered, "s"),
        Figure(
            f"{ORDERS} paid at once, until all are active", took, "s", GOAL_S, at_least=False
        ),
        Figure("… until the median one is", kit.median(ended), "s"),
        Figure(
            f"{ORDERS} made by hand at once (baseline)",
            by_hand,
            "s",
            note="two cores make 20 databases and 40 instances",
        ),
        Figure("the crowd, to by hand", took / by_hand, "times"),
        Figure(
            "spaces a minute while the crowd lasts",
            60 * ORDERS / took,
            "",
        ),
        Figure("URLs that answer", sum(answering), "", ORDERS),
        Figure(
            "made twice or too little",
            twice,
            "",
            0,
            at_least=False,
            note="operations, databases, instances",
        ),
    ]


async def _by_hand_s(home: Home) -> float:
    """The pieces of as many spaces, made at once beside those that now stand idle."""
    async with ByHand(home) as by_hand:
        began = time.monotonic()
        await asyncio.gather(*(by_hand.make(f"hand-{number}") for number in range(ORDERS)))
        return time.monotonic() - began


async def _all_active(customers: Customers, orders: list[dict[str, Any]]) -> None:
    deadline = time.monotonic() + 3 * GOAL_S
    wanted = {order["space_id"] for order in orders}
    while True:
        spaces = (await customers.api.get("/spaces"))["items"]
        status = Counter(one["status"] for one in spaces if one["space_id"] in wanted)
        if status["active"] == len(orders):
            return
        if status["failed"] or time.monotonic() > deadline:
            raise RuntimeError(f"of {len(orders)} spaces: {dict(status)}")
        await asyncio.sleep(_LOOK_S)


async def _operations(customers: Customers, order: dict[str, Any]) -> list[dict[str, Any]]:
    return (await customers.api.get(f"/spaces/{order['space_id']}/operations"))["items"]


async def _made_otherwise(home: Home, orders: list[dict[str, Any]]) -> int:
    """How many databases and instances there are beside one and two for each order."""
    url = f"http://127.0.0.1:{home.port('resource_manager')}/_local/processes"
    headers = {"Authorization": f"Bearer {home.secret('token')}"}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(url) as answer,
    ):
        items = json.loads(await answer.read())["items"]
    found = Counter((one["space_id"], one["kind"]) for one in items if one["running"])
    wanted = {"database": 1, "instance": 2}
    return sum(
        abs(found[order["space_id"], kind] - count)
        for order in orders
        for kind, count in wanted.items()
    )
