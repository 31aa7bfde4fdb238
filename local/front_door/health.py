"""Which origins are healthy, and whose turn it is.

An origin is healthy when its `/healthz` says 200 in the name of the expected instance: a port
that another process has taken since is not that space. Healthy ones are asked every two seconds,
the others twice a second while somebody has a use for them; a failed connection counts at once.
Between zones turns go round, and within a zone between its instances.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Iterable

    from local.front_door.routes import Origin, Route, Routes

_HEALTHY_EVERY_S = 2.0
_SICK_EVERY_S = 0.5
_PROBE_S = 1.0


@dataclass(slots=True)
class _Seen:
    healthy: bool
    next_at: float


class Health:
    """What is known about the origins of all routes."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._seen: dict[Origin, _Seen] = {}
        self._probes: dict[Origin, asyncio.Task[bool]] = {}
        self._turns: defaultdict[str, itertools.count[int]] = defaultdict(itertools.count)
        self._session: aiohttp.ClientSession | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to ask."""
        timeout = aiohttp.ClientTimeout(total=_PROBE_S)
        # A connection for each question: one kept open would hide that nobody listens any more.
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        self._session = aiohttp.ClientSession(timeout=timeout, connector=connector)
        self._watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Stop asking."""
        tasks = [*self._probes.values(), *([self._watcher] if self._watcher else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._session:
            await self._session.close()

    async def candidates(self, route: Route) -> list[Origin]:
        """Healthy origins in the order to try them; asks now when none is known to be."""
        healthy = [origin for origin in route.origins if self._is_healthy(origin)]
        if not healthy:
            answers = await asyncio.gather(*(self.probe(origin) for origin in route.origins))
            healthy = [o for o, yes in zip(route.origins, answers, strict=True) if yes]
        return self._in_turn(route.hostname, healthy)

    async def probe(self, origin: Origin) -> bool:
        """Ask an origin; those who ask at the same time share the answer."""
        task = self._probes.get(origin)
        if task is None:
            task = asyncio.create_task(self._ask(origin))
            self._probes[origin] = task
            task.add_done_callback(lambda _: self._probes.pop(origin, None))
        return await asyncio.shield(task)

    def failed(self, origin: Origin) -> None:
        """A connection to it failed: it has no turn until it answers again."""
        self._seen[origin] = _Seen(healthy=False, next_at=self._now() + _SICK_EVERY_S)

    def _is_healthy(self, origin: Origin) -> bool:
        seen = self._seen.get(origin)
        return seen is not None and seen.healthy

    def _in_turn(self, hostname: str, origins: Iterable[Origin]) -> list[Origin]:
        zones: defaultdict[str, list[Origin]] = defaultdict(list)
        for origin in origins:
            zones[origin.zone].append(origin)
        if not zones:
            return []
        turn = next(self._turns[hostname])
        groups = [zones[zone] for zone in sorted(zones)]
        within, start = divmod(turn, len(groups))
        groups = groups[start:] + groups[:start]
        ordered = [
            group[within % len(group) :] + group[: within % len(group)] for group in groups
        ]
        # First one of each zone, then the second of each: another try goes to another zone.
        layers = itertools.zip_longest(*ordered)
        return [origin for layer in layers for origin in layer if origin is not None]

    async def _ask(self, origin: Origin) -> bool:
        assert self._session is not None  # noqa: S101 — started
        healthy = False
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, ValueError):
            async with self._session.get(f"http://{origin.address}/healthz") as answer:
                body = await answer.json()
                named = body.get("instance") if isinstance(body, dict) else None
                healthy = answer.status == 200 and named == origin.instance
        pause_s = _HEALTHY_EVERY_S if healthy else _SICK_EVERY_S
        self._seen[origin] = _Seen(healthy=healthy, next_at=self._now() + pause_s)
        return healthy

    async def _watch(self) -> None:
        while True:
            table = self._routes.table()
            live = {origin for route in table.values() for origin in route.origins}
            for gone in set(self._seen) - live:
                del self._seen[gone]
            for gone in set(self._turns) - {route.hostname for route in table.values()}:
                del self._turns[gone]
            due = [
                origin
                for route in table.values()
                if route.enabled
                for origin in route.origins
                if self._is_due(origin)
            ]
            await asyncio.gather(*(self.probe(origin) for origin in due))
            await asyncio.sleep(_SICK_EVERY_S / 2)

    def _is_due(self, origin: Origin) -> bool:
        seen = self._seen.get(origin)
        return seen is None or seen.next_at <= self._now()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()
