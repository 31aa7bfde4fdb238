"""What a seeded campaign is made of: workers, a bad day, orders, and ports that wait for their turn."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from provisioning import orders
from tests.fakes import FakeTables, Received, Script

if TYPE_CHECKING:
    import random

    from spaces.ports import Message
    from tests.provisioning.campaign import Campaign
    from tests.provisioning.invariants import Progress


@dataclass(slots=True, eq=False)
class Worker:
    """One run of a handler; `gates` are the port calls that it waits to make.

    One that is asleep goes on long after its message was given to another: its next call is late.
    """

    name: str
    task: asyncio.Task[object] | None = None
    item: Received | None = None
    is_late: bool = False
    is_asleep: bool = False
    gates: list[asyncio.Future[None]] = field(default_factory=list[asyncio.Future[None]])


@dataclass(slots=True)
class Day:
    """How bad the day is: how often each fault may happen, and how far the clock may jump."""

    crashes: int
    lost_locks: int
    lost_messages: int
    late_deliveries: int
    errors: int
    sweeps: int
    outages: int
    seconds: float

    @classmethod
    def drawn(cls, chance: random.Random) -> Day:
        """Crashes, lost locks and an outage together stay below the queue's delivery count."""
        crashes = chance.randint(0, 3)
        day = cls(
            crashes=crashes,
            lost_locks=chance.randint(0, 4 - crashes),
            lost_messages=chance.randint(0, 2),
            late_deliveries=chance.randint(0, 3),
            errors=chance.randint(0, 4),
            sweeps=chance.randint(0, 3),
            outages=chance.randint(0, 1) * chance.randint(0, 1),
            seconds=chance.choice((10.0, 120.0, 240.0)),
        )
        day.lost_locks = min(day.lost_locks, 4 - crashes - day.outages)
        return day


@dataclass(slots=True)
class Ordered:
    """An order of this seed: what billing says of it, and how its stack behaves."""

    key: str
    name: str
    newest: int
    request: orders.OrderRequest
    script: Script
    space_id: str
    order_id: str
    placed: bool = False
    refused: bool = False


class Gated:
    """A port that lets the scheduler decide when each call happens."""

    def __init__(self, port: Any, campaign: Campaign) -> None:
        self._port = port
        self._campaign = campaign

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._port, name)
        if name.startswith("_") or not callable(target) or name in {"backup_of", "list"}:
            return target

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._campaign.call(name, target, args, kwargs)

        async def send(messages: list[Message]) -> None:
            for message in messages:  # a process can die between any two
                await self._campaign.call("send", target, ([message],), {})

        return send if name == "send" else call


class WatchedTables(FakeTables):
    """The fake that also looks at each version of a space's state, as it is written."""

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    async def commit(self, table: str, partition: str, writes: Any) -> None:
        await super().commit(table, partition, writes)
        if table == "spaces":
            self._progress.note(partition, self._rows(table)[partition]["state"])
