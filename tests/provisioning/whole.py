"""The small world with both rooms in it: what billing starts is carried out, to its end."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from backups.places import Places
from backups.plans import QUEUE as RUNS
from backups.plans import plans_of
from provisioning.plans import QUEUE as STEPS
from spaces.messages import Poke
from spaces.saga.runner import advance
from tests.backups.world import Databases, FakeData
from tests.provisioning.world import Counter, Stopped, World

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from spaces.ports import Ports
    from tests.fakes import Received


class Whole(World):
    """A world whose `backup-runs` are worked on too."""

    def __init__(
        self, counter: Counter | None = None, *, wrap: Callable[[Ports], Ports] | None = None
    ) -> None:
        data = FakeData()

        def with_data(ports: Ports) -> Ports:
            ports = replace(ports, databases=Databases(data))
            return wrap(ports) if wrap else ports

        super().__init__(counter, wrap=with_data)
        self.plans = plans_of(Places(self.settings, data))
        self.handlers: dict[str, Any] = {
            "billing-events": self._on_billing,
            STEPS: self._on_step,
            RUNS: self._on_run,
        }

    async def pump(self) -> None:
        while True:
            self._react()
            try:
                if not await self.bus.pump(self.handlers, most=400):
                    return
            except Stopped:
                self.clock.advance(31)  # the queue's lock of the dead process runs out

    async def _on_run(self, item: Received) -> None:
        poke = msgspec.json.decode(item.body, type=Poke)
        name = item.message.message_id
        await advance(self.ports, self.plans, poke, message_id=name, floor_s=0.5)
