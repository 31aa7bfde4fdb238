"""A small world around the real handlers: fakes that react to each other, a clock that jumps.

The Resource Manager's stack brings machines, the machines wait for their settings, and the edge
answers once they have them, as on the platform. A process can be stopped at any port call.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import msgspec

from geo_router import router, signed, tables
from provisioning import orders
from provisioning.admit import ATTEMPT, FIRST_SEEN, Incoming, admit
from provisioning.plans import PLANS
from spaces import names
from spaces.messages import Poke
from spaces.ports import Message, Ports, StackState
from spaces.registry import Registry
from spaces.saga import dead
from spaces.saga.runner import advance
from spaces.saga.sweep import sweep
from tests.builders import some_settings
from tests.fakes import FakeArm, FakeBus, FakeClock, FakeEdge, Received, fake_ports, space_app

if TYPE_CHECKING:
    from collections.abc import Callable

    from spaces.model import Space
    from spaces.ports import StackRequest

GRACE_S = 90
ZONES = {"starter": ("1", "2"), "standard": ("1", "2"), "premium": ("1", "2", "3")}


class Stopped(BaseException):
    """The process died here; nothing after this line ran."""


class _Stopping:
    """A port whose n-th call, counted over all ports, stops the process before or after."""

    def __init__(self, port: Any, count: Counter) -> None:
        self._port = port
        self._count = count

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._port, name)
        if name.startswith("_") or not callable(target) or name in {"backup_of", "list"}:
            return target

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._count.step(f"{type(self._port).__name__}.{name}", "before")
            result = await target(*args, **kwargs)
            self._count.step(f"{type(self._port).__name__}.{name}", "after")
            return result

        return call


@dataclass(slots=True)
class Counter:
    """Counts port calls; stops the process once, at call `at`, on its `side`."""

    at: int = 0
    side: str = "before"
    seen: int = 0
    stopped: bool = False

    def step(self, name: str, side: str) -> None:
        del name
        if side == "before":
            self.seen += 1
        if not self.stopped and self.at == self.seen and self.side == side:
            self.stopped = True
            raise Stopped


class World:
    """The estate in memory: `order`, `send`, `settle`, then look."""

    def __init__(
        self,
        counter: Counter | None = None,
        *,
        wrap: Callable[[Ports], Ports] | None = None,
        **settings: str,
    ) -> None:
        self.settings = some_settings(KPAX_POLL_FLOOR_S="0.5", **settings)
        self.clock = FakeClock()
        self.bus = FakeBus(self.clock)
        self.arm = FakeArm(self.clock, outputs=_outputs)
        self.edge = FakeEdge()
        self.counter = counter or Counter()
        self.bare = fake_ports(clock=self.clock, bus=self.bus, arm=self.arm, edge=self.edge)
        inner = wrap(self.bare) if wrap else self.bare
        self.ports = replace(
            inner,
            **{
                name: _Stopping(getattr(inner, name), self.counter)
                for name in ("tables", "bus", "arm", "databases", "secrets", "edge", "accounts")
            },
        )
        self.registry = Registry(self.bare.tables)

    async def order(
        self,
        *,
        name: str = "acme",
        country: str = "DE",
        plan: str = "standard",
        key: str = "k-1",
    ) -> orders.OrderView:
        """An accepted order, with a decision issued a moment ago."""
        return await orders.place(
            self.bare,
            self.settings,
            self.order_request(name=name, country=country, plan=plan, jti=f"jti-{key}"),
            caller="key:default",
            key=key,
        )

    def order_request(
        self, *, name: str = "acme", country: str = "DE", plan: str = "standard", jti: str = "j"
    ) -> orders.OrderRequest:
        """What the signup flow sends, with a token that is good now."""
        request: dict[str, object] = {"country": country}
        now = self.clock.now()
        answer = router.settle(tables.load(), request, today=now.date().isoformat()).answer
        key = signed.SigningKey.from_setting(self.settings.decision_key)
        return orders.OrderRequest(
            name=name,
            plan=plan,  # pyright: ignore[reportArgumentType]
            customer_ref="c-42",
            route=request,
            token=signed.issue(answer, key=key, now=now, jti=jti),
        )

    async def send(self, body: str, *, message_id: str = "m-1") -> None:
        """Put a billing event on its queue."""
        await self.bus.send([Message(queue="billing-events", message_id=message_id, body=body)])

    async def pump(self) -> None:
        """Let the functions work on what stands in the queues, dying where the counter says."""
        handlers = {"billing-events": self._on_billing, "provisioning-steps": self._on_step}
        while True:
            self._react()
            try:
                moved = await self.bus.pump(handlers, most=400)
                if not moved + await self._bury():
                    return
            except Stopped:
                self.clock.advance(31)  # the queue's lock of the dead process runs out

    async def settle(self, *, hours: float = 1.0) -> None:
        """Pump, jump to what is due next, sweep each minute, until nothing more happens."""
        until = self.clock.now() + timedelta(hours=hours)
        while self.clock.now() < until:
            await self.pump()
            due = self.bus.next_due()
            watched = await self.bare.tables.query("activeops")
            if due is None and not watched:
                return
            wait = 60.0
            if due is not None:
                wait = min(wait, max((due - self.clock.now()).total_seconds(), 0.001))
            self.clock.advance(wait)
            if wait == 60.0 or due is None:
                await self._sweep()

    async def space(self, space_id: str) -> Space:
        """The space as its row has it."""
        return (await self.registry.require(space_id)).space

    async def _sweep(self) -> None:
        try:
            await sweep(self.ports, grace_s=GRACE_S)
        except Stopped:
            return

    async def _bury(self) -> int:
        """Hand the dead letters to their function, as the host would; answers how many."""
        buried = 0
        for queue in ("billing-events", "provisioning-steps"):
            while letters := self.bus.dead(queue):
                await dead.bury(
                    self.ports,
                    dead.Dead(
                        queue=queue,
                        body=letters[0].body,
                        message_id=letters[0].message.message_id,
                        sequence_number=self.bus.sent.index(letters[0].message),
                        reason=letters[0].reason or "",
                        description=letters[0].description or "",
                    ),
                )
                letters.pop(0)
                buried += 1
        return buried

    async def _on_billing(self, item: Received) -> None:
        first_seen = item.message.properties.get(FIRST_SEEN)
        incoming = Incoming(
            body=item.body,
            message_id=item.message.message_id,
            sequence_number=self.bus.sent.index(item.message),
            first_seen=type(self.clock.now()).fromisoformat(first_seen)
            if first_seen
            else item.enqueued_at,
            attempt=int(item.message.properties.get(ATTEMPT, "0")),
        )
        await admit(self.ports, self.settings, incoming)

    async def _on_step(self, item: Received) -> None:
        poke = msgspec.json.decode(item.body, type=Poke)
        await advance(self.ports, PLANS, poke, message_id=item.message.message_id, floor_s=0.5)

    def _react(self) -> None:
        """What the platform does by itself: machines start with their stack, and serve."""
        for name in self.arm.names():
            request = self.arm.request(name)
            outputs = _outputs(request)
            group, scale_set = str(outputs["resourceGroup"]), str(outputs["scaleSet"])
            zones = ZONES[str(request.parameters["plan"])]
            self.arm.start_machines(group, scale_set, zones)
            space_id = str(request.parameters["spaceId"])
            self.edge.serve(
                f"http://{request.parameters['hostName']}:8080",
                space_app(
                    space_id=space_id, release=str(request.parameters["release"]), zones=zones
                ),
            )


def _outputs(request: StackRequest) -> dict[str, object]:
    stack = request.name
    return {
        "resourceGroup": f"rg-kx-{stack}",
        "databaseHost": f"pg-{stack}.postgres.database.azure.com",
        "databaseAdminUser": "kpax_admin",
        "blobEndpoint": f"https://kx{stack.replace('-', '')}.blob.core.windows.net/",
        "storageAccount": f"kx{stack.replace('-', '')}",
        "vaultUri": f"https://kv-{stack}.vault.azure.net/",
        "scaleSet": f"vmss-{stack}",
    }


__all__ = ["GRACE_S", "Counter", "StackState", "Stopped", "World", "names"]
