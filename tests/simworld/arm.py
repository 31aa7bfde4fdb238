"""A Resource Manager with Azure's manners: drawn durations, lag, throttling, hangs, strange ends.

Durations: control-plane.md 5.1 (public logs, not measured by us). What a test does not ask for
does not happen: `Manners()` is a Resource Manager on its best day.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from spaces.errors import ThrottledError
from spaces.ports import PartKind, Stack, StackRequest, StackState
from tests.fakes import FakeArm, Script

if TYPE_CHECKING:
    from tests.fakes import FakeClock

# Migration and start of a space's application: control-plane.md 5.2.
BOOT_S = (60.0, 150.0)
# Seconds: the fastest and the slowest that were found, for each part that a stack makes at once.
DATABASE_S = (306.0, 563.0)
OTHERS_S = ((18.0, 69.0), (75.0, 160.0), (12.0, 135.0))
DELETE_S = (60.0, 300.0)
QUICK = Script(duration_s=3.0, delete_s=2.0, retry_after_s=1.0)


@dataclass(slots=True)
class Bucket:
    """A token bucket: `size` at once, `refill` a second."""

    size: float
    refill: float
    left: float
    at: datetime

    def take(self, now: datetime) -> float | None:
        """None when there was a token, else the seconds until there is one."""
        gone = (now - self.at).total_seconds()
        self.left, self.at = min(self.size, self.left + gone * self.refill), now
        if self.left >= 1:
            self.left -= 1
            return None
        return (1 - self.left) / self.refill


@dataclass(slots=True, kw_only=True)
class Manners:
    """How the Resource Manager behaves; `chance` draws what is not said."""

    azure_times: bool = False
    boot_s: tuple[float, float] = (0.0, 0.0)
    lag_s: float = 0.0
    throttled: bool = False
    chance: random.Random = field(default_factory=lambda: random.Random(1))  # noqa: S311


class SimArm(FakeArm):
    """The fake, with manners. `ends` says how the next operations on a stack end."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock, outputs=outputs, default=QUICK)
        self.manners = Manners()
        self.ends: dict[str, list[Script]] = {}
        self.first_put: dict[str, datetime] = {}
        self.took: dict[str, float] = {}
        now = clock.now()
        self._reads = Bucket(250, 25, 250, now)
        self._writes = Bucket(200, 10, 200, now)

    async def put_stack(self, request: StackRequest) -> Stack:
        self._pace(self._writes)
        planned = self.ends.get(request.name)
        self.scripts[request.name] = planned.pop(0) if planned else self._drawn()
        self.took[request.name] = self.scripts[request.name].duration_s
        answer = await super().put_stack(request)
        self.first_put.setdefault(request.name, self._clock.now())
        return answer

    async def get_stack(self, name: str) -> Stack:
        self._pace(self._reads)
        seen = await super().get_stack(name)
        lag = timedelta(seconds=self.manners.lag_s)
        made = self.first_put.get(name)
        if lag and made is not None and self._clock.now() < made + lag:
            return Stack(name=name, state=StackState.ABSENT)
        return seen

    async def delete_stack(self, name: str) -> Stack:
        self._pace(self._writes)
        return await super().delete_stack(name)

    def is_done(self, name: str) -> bool:
        """Whether the last operation of a stack that stands ended well."""
        record = self._records[name]
        if record.deleting or self._runs(record):
            return False
        failed = record.refused or record.script.failure or record.script.canceled
        return not failed

    def running(self) -> list[str]:
        """The stacks on which an operation is under way."""
        return [name for name in self.names() if self._runs(self._records[name])]

    def runs(self, kind: PartKind, group: str) -> bool:
        """Whether this part of a resource group runs; what nobody stopped does."""
        return all(
            self.is_on(part)
            for part in self._power
            if part.kind is kind and part.resource_group == group
        )

    def serves(self, host: str) -> bool:
        """Whether the database server of this address runs."""
        for name in self.names():
            where = outputs_of(name)
            if where["databaseHost"] == host:
                return self.runs(PartKind.DATABASE, str(where["resourceGroup"]))
        return True

    def vanish(self, name: str) -> None:
        """Somebody deletes it by hand."""
        self._records.pop(name, None)

    def edit(self, name: str, **parameters: object) -> None:
        """Somebody changes it by hand."""
        record = self._records[name]
        record.request = replace(
            record.request, parameters={**record.request.parameters, **parameters}
        )

    def _drawn(self) -> Script:
        if not self.manners.azure_times:
            return self.default
        chance = self.manners.chance
        longest = max(
            chance.uniform(*DATABASE_S), *(chance.uniform(*each) for each in OTHERS_S)
        )
        return Script(
            duration_s=longest, delete_s=chance.uniform(*DELETE_S), retry_after_s=10.0
        )

    def _pace(self, bucket: Bucket) -> None:
        if not self.manners.throttled:
            return
        wait = bucket.take(self._clock.now())
        if wait is not None:
            raise ThrottledError(
                "too many requests", retry_after_s=wait, where="Resource Manager"
            )


def outputs(request: StackRequest) -> dict[str, object]:
    """What the template's outputs say of a stack."""
    return outputs_of(request.name)


def outputs_of(stack: str) -> dict[str, object]:
    """The names of a stack's parts, by its own."""
    word = stack.replace("-", "")
    return {
        "resourceGroup": f"rg-kx-{stack}",
        "databaseHost": f"pg-{stack}.postgres.database.azure.com",
        "databaseAdminUser": "kpax_admin",
        "blobEndpoint": f"https://kx{word}.blob.core.windows.net/",
        "storageAccount": f"kx{word}",
        "vaultUri": f"https://kv-{stack}.vault.azure.net/",
        "scaleSet": f"vmss-{stack}",
    }
