"""The figures of the design's section 5.2 that a simulation can count, for tests and for people.

`python -m tests.simworld.figures` prints them.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
from collections import Counter
from dataclasses import asdict, dataclass

from tests.simworld import actions as do
from tests.simworld import host
from tests.simworld.arm import BOOT_S
from tests.simworld.operations import prepared
from tests.simworld.world import World

# What one call of a port takes; the design's goal for throughput reckons with as much.
LATENCY_S = 0.02
STEPS = "provisioning-steps"


@dataclass(frozen=True, slots=True)
class Opening:
    """What one cold opening costs from its payment on: in all, the worst step, the worst look.

    `with_order` counts the order's own table transactions too.
    """

    table_transactions: int
    with_order: int
    messages: int
    worst_step: int
    worst_look_writes: int
    worst_look_reads: int


@dataclass(frozen=True, slots=True)
class Times:
    """Cold openings with drawn times of the platform: from payment to active, in virtual seconds."""

    p50_s: float
    p95_s: float
    longest_share_s: float
    longest_share: float


@dataclass(frozen=True, slots=True)
class Idle:
    """What one more space costs in a day on which nothing happens to it."""

    table_transactions: float
    messages: float


def opening() -> Opening:
    """Count a clean cold opening; a look is a message that finds the stack still being made."""
    world = World(prepared("provision")())
    do.order(world)
    world.settle()
    before = len(world.calls)
    do.bill(world)
    world.settle()
    sent = len(world.estate.bus.sent) + len(world.estate.bus.published)
    world.close()
    by_message: dict[str, list[str]] = {}
    for line in world.trace:
        name, arrow, call = line.partition(" ")[2].partition(" → ")
        if arrow and name.startswith(STEPS):
            by_message.setdefault(name, []).append(call)
    steps, looks = list[int](), list[Counter[str]]()
    for name, calls in by_message.items():
        of_space = [call for call in calls if call.startswith("tables") and " spaces" in call]
        commits = [call for call in of_space if "commit" in call]
        if ":p" in name and not commits:
            looks.append(Counter("commit" if "commit" in call else "read" for call in of_space))
        elif commits:
            steps.append(len(of_space))
    return Opening(
        table_transactions=sum(call.port == "tables" for call in world.calls[before:]),
        with_order=sum(call.port == "tables" for call in world.calls),
        messages=sent,
        worst_step=max(steps),
        worst_look_writes=max(look["commit"] for look in looks),
        worst_look_reads=max(look["read"] for look in looks),
    )


def times(count: int) -> Times:
    """Cold openings as long as Azure's take; the control plane's share is what is not Azure's."""
    with host.polling("2"):
        return _times(count)


def _times(count: int) -> Times:
    total, ours, share = list[float](), list[float](), list[float]()
    for number in range(count):
        world = World(prepared("provision")())
        world.latency_s = LATENCY_S
        manners = world.estate.arm.manners
        manners.azure_times, manners.boot_s = True, BOOT_S
        manners.chance = random.Random(f"times {number}")  # noqa: S311
        do.order(world)
        world.settle()
        paid = world.clock.now()
        do.bill(world)
        world.settle()
        space = world.rules.spaces[do.space_id()]
        assert space.activated_at is not None
        name = f"{space.space_id}-1"
        platform = world.estate.arm.took[name] + world.estate.served[name].boot_s
        total.append((space.activated_at - paid).total_seconds())
        ours.append(total[-1] - platform)
        share.append(ours[-1] / total[-1])
        world.close()
    cuts = statistics.quantiles(total, n=20)
    return Times(cuts[9], cuts[18], max(ours), max(share))


def idle() -> Idle:
    """The difference between two fleets over a day with every timer, for each space more."""
    (few, few_sent), (many, many_sent) = _a_day(1), _a_day(4)
    return Idle((many - few) / 3, (many_sent - few_sent) / 3)


def _a_day(spaces: int) -> tuple[int, int]:
    world = World(timers=frozenset(host.app().timers))
    for number in range(1, spaces + 1):
        do.order(world, number)
        world.settle()
        do.bill(world, number)
        world.settle()
    world.advance(2 * 86_400)
    calls, sent = len(world.calls), len(world.estate.bus.sent) + len(world.estate.bus.published)
    world.advance(86_400)
    tables = sum(call.port == "tables" for call in world.calls[calls:])
    now = len(world.estate.bus.sent) + len(world.estate.bus.published)
    world.close()
    return tables, now - sent


def main() -> int:
    """Print the figures as JSON."""
    with host.in_place():
        told = {"opening": opening(), "times": times(200), "idle": idle()}
    document = {name: asdict(value) for name, value in told.items()}
    sys.stdout.write(f"{json.dumps(document, indent=2)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
