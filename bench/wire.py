"""Table transactions and bus messages of an opening and what may follow, counted on the wire.

Relays stand before Azurite's table server and before the broker; the application reaches both
through them and nobody else does. While a space opens nobody asks the API, since its answers read
tables: only the space's own URL is looked at. An operator's request for what follows is counted
with it: key, caller, the operation's beginning and its answer. The sweeper, which looks every 15
seconds whether anything is lost, is put off: it costs one request while nothing runs, whatever is
opened. The app's look at its queues costs one a minute, and is counted where it falls.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from typing import TYPE_CHECKING

from bench import kit
from bench.customers import Customers
from bench.kit import Figure
from bench.stack import thrown_away, write_settings
from bench.taps import Messages, Requests, Tap
from local.azurite import AzuriteAccounts
from local.azurite.accounts import CONTROL_ACCOUNT
from local.service_bus.connection import connection_string

if TYPE_CHECKING:
    from bench.stack import Stack

SPACES = 6
TRANSACTIONS_GOAL = 40.0
MESSAGES_GOAL = 80.0
# What an operator asks for, in turn, and how the space stands then; of so many spaces.
VERBS: tuple[tuple[str, dict[str, str], str], ...] = (
    ("resize", {"plan": "premium"}, "active"),
    ("suspend", {}, "suspended"),
    ("resume", {}, "active"),
    ("cancel", {}, "cancelled"),
)
SPACES_OF_VERBS = 3
_QUIET_S = 2.0
_QUIET_VERB_S = 5.0
_LOOK_S = 0.1


def measure() -> list[Figure]:
    """Openings of standard spaces on one stack whose application is wired through the taps."""
    with thrown_away() as stack:
        return asyncio.run(_measure(stack))


async def _measure(stack: Stack) -> list[Figure]:
    tables: Counter[str] = Counter()
    bus: Counter[str] = Counter()
    home = stack.home
    async with (
        Tap(home.port("azurite_table"), lambda: Requests(tables)) as table_tap,
        Tap(home.port("service_bus"), lambda: Messages(bus)) as bus_tap,
    ):
        control = AzuriteAccounts(home).register(CONTROL_ACCOUNT).connection_string
        write_settings(
            stack,
            {
                "KPAX_STORAGE": _through(control, home.port("azurite_table"), table_tap.port),
                "ServiceBus": _through(
                    connection_string(home), home.port("service_bus"), bus_tap.port
                ),
                "KPAX_SWEEP_SCHEDULE": "0 0 3 1 1 *",
            },
        )
        await asyncio.to_thread(stack.up)
        return await _openings(stack, tables, bus)


async def _openings(stack: Stack, tables: Counter[str], bus: Counter[str]) -> list[Figure]:
    ordered: list[int] = []
    opened: list[Counter[str]] = []
    carried: list[Counter[str]] = []
    spaces: list[str] = []
    async with Customers(stack.home) as customers:
        for number in range(SPACES):
            before = tables.copy()
            order = await customers.order(f"wire-{number}", plan="standard")
            await _quiet(tables, bus)
            ordered.append((tables - before).total())
            tables_before, bus_before = tables.copy(), bus.copy()
            await customers.pay(order)
            await customers.until_answering(order["url"])
            await _quiet(tables, bus)
            opened.append(tables - tables_before)
            carried.append(bus - bus_before)
            space = await customers.api.get(f"/spaces/{order['space_id']}")
            if space["status"] != "active":
                raise RuntimeError(f"counted too early: {space['name']} is {space['status']}")
            spaces.append(space["space_id"])
        later = await _operations(customers, spaces[:SPACES_OF_VERBS], tables, bus)
    return _figures(ordered, opened, carried) + later


async def _operations(
    customers: Customers, spaces: list[str], tables: Counter[str], bus: Counter[str]
) -> list[Figure]:
    """What an operator asks of each space, one thing after the other."""
    counted: dict[str, list[tuple[int, int]]] = {}
    for space_id in spaces:
        for kind, more, status in VERBS:
            before = (tables.total(), bus.total())
            await customers.api.post(
                f"/spaces/{space_id}/{kind}", {"reason": "measured", **more}, status=202
            )
            await _quiet(tables, bus, _QUIET_VERB_S)
            after = (tables.total(), bus.total())
            counted.setdefault(kind, []).append((after[0] - before[0], after[1] - before[1]))
            await customers.operation(space_id, kind)
            space = await customers.api.get(f"/spaces/{space_id}")
            if space["status"] != status:
                raise RuntimeError(f"counted too early: after {kind} it is {space['status']}")
    return [
        Figure(
            f"table transactions of one {kind}, median",
            kit.median([one for one, _ in pairs]),
            "",
            note=f"{len(pairs)} times, the request included; bus messages, sent and delivered:"
            f" {kit.number(kit.median([other for _, other in pairs]))}",
        )
        for kind, pairs in counted.items()
    ]


async def _quiet(tables: Counter[str], bus: Counter[str], quiet_s: float = _QUIET_S) -> None:
    """Wait until nothing has passed for so long: longer than any pause of an operation."""
    since, seen = time.monotonic(), (tables.total(), bus.total())
    while time.monotonic() - since < quiet_s:
        await asyncio.sleep(_LOOK_S)
        now = (tables.total(), bus.total())
        if now != seen:
            since, seen = time.monotonic(), now


def _figures(
    ordered: list[int], opened: list[Counter[str]], carried: list[Counter[str]]
) -> list[Figure]:
    transactions = [one.total() for one in opened]
    sent = [_sum(one, "sent") for one in carried]
    delivered = [_sum(one, "delivered") for one in carried]
    both = [one + other for one, other in zip(sent, delivered, strict=True)]
    batches = [sum(n for name, n in one.items() if name.endswith("$batch")) for one in opened]
    reads = [sum(n for name, n in one.items() if name.startswith("GET")) for one in opened]
    by_queue = ", ".join(
        f"{name} {kit.number(kit.median([one[name] for one in carried]))}"
        for name in sorted(set().union(*carried))
    )
    return [
        Figure(
            "table transactions of one opening, median",
            kit.median(transactions),
            "",
            TRANSACTIONS_GOAL,
            at_least=False,
            note=f"{len(opened)} openings, {min(transactions)} to {max(transactions)};"
            f" the first, which makes tables, {transactions[0]}",
        ),
        Figure("… of them entity group transactions", kit.median(batches), ""),
        Figure("… of them reads", kit.median(reads), ""),
        Figure(
            "bus messages of one opening, sent and delivered, median",
            kit.median(both),
            "",
            MESSAGES_GOAL,
            at_least=False,
            note=f"{min(both)} to {max(both)}; {by_queue}",
        ),
        Figure("… sent by the application", kit.median(sent), ""),
        Figure("… delivered to it, each settled once", kit.median(delivered), ""),
        Figure("table transactions of the order before it, median", kit.median(ordered), ""),
    ]


def _sum(counts: Counter[str], what: str) -> int:
    return sum(count for name, count in counts.items() if name.startswith(what))


def _through(connection: str, port: int, tap: int) -> str:
    """The connection string with the tap's port in place of the server's."""
    changed = re.sub(rf":{port}\b", f":{tap}", connection)
    if changed == connection:
        raise ValueError("the connection string does not name the port")
    return changed
