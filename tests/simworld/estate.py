"""All that exists outside the app, in memory: fakes that react to each other, and virtual time.

An estate holds no tasks and no functions of a moment, so that it can be copied: `copy` gives the
same world once more, for each of a thousand faults.
"""

from __future__ import annotations

import base64
import io
import json
import pickle
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from spaces.configuration import template
from spaces.model import ZONES, Tier
from spaces.names import SETTINGS_SECRET
from spaces.ports import PartKind
from spaces.settings import ROOT
from tests.fakes import (
    FakeBilling,
    FakeBus,
    FakeClock,
    FakeDatabases,
    FakeSecrets,
    QueueRules,
    Received,
    fake_ports,
)
from tests.fakes.bus import _Queue
from tests.fakes.databases import FakeServer
from tests.fakes.edge import answer
from tests.simworld.arm import SimArm, outputs, outputs_of
from tests.simworld.data import SimData

if TYPE_CHECKING:
    from collections.abc import Callable

    from spaces.ports import Answer, Message, Server
    from tests.fakes import FakeAccounts, FakeTables

EVENTS = "space-events"
MANY = 10**9
TEMPLATE = template(ROOT / "infra" / "space.json")


@dataclass(slots=True)
class Served:
    """The machines of a stack: the revision and plan they started with, and what they then read."""

    shape: tuple[str, str]
    settings: dict[str, Any] | None = None
    ready_at: datetime | None = None
    boot_s: float = 0.0


class SimBus(FakeBus):
    """The broker; published events leave it at once, for a consumer outside."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.published: list[Message] = []

    def _accept(self, message: Message) -> None:
        if message.queue == EVENTS:
            self.published.append(message)
            return
        super()._accept(message)

    def _queue(self, name: str) -> _Queue:
        """A queue, or its dead letters as a queue of their own, from which nothing dies again."""
        if "/" not in name:
            return super()._queue(name)
        of = name.partition("/")[0]
        dead = self._queues.setdefault(
            name, _Queue(QueueRules(name=name, max_delivery_count=MANY))
        )
        fresh, self._queues[of].dead = self._queues[of].dead, []
        for item in fresh:
            item.queue, item.delivery_count, item.locked_until = name, 0, None
            dead.waiting.append(item)
        return dead

    def held(self) -> list[Received]:
        """Messages that somebody holds."""
        return [item for queue in self._queues.values() for item in queue.locked]

    def has(self, name: str) -> bool:
        """Whether a message can be received from this queue now."""
        queue = self._queue(name)
        self._settle(queue)
        return bool(queue.waiting)

    def is_empty(self, *, but: list[Received]) -> bool:
        """Nothing waits or is scheduled, and nothing is held but these."""
        known = {id(item) for item in but}
        return not any(
            queue.waiting
            or queue.scheduled
            or queue.dead
            or [item for item in queue.locked if id(item) not in known]
            for queue in self._queues.values()
        )

    def vanish(self, message: Message) -> None:
        """A message that was accepted is gone."""
        queue = self._queues[message.queue]
        queue.waiting = [item for item in queue.waiting if item.message is not message]
        queue.scheduled = [item for item in queue.scheduled if item.message is not message]

    def standing(self, name: str) -> list[list[Received]]:
        """What is there to be lost: the waiting and the scheduled."""
        queue = self._queues[name]
        return [queue.waiting, queue.scheduled]


class SimDatabases(FakeDatabases):
    """Servers whose rows go with their databases; a stopped or missing one does not answer."""

    def __init__(self, data: SimData, arm: SimArm) -> None:
        super().__init__()
        self._data = data
        self.closed = True
        self.runs = arm.serves

    async def drop_database(self, server: Server, database: str) -> None:
        await super().drop_database(server, database)
        self._data.forget(server.address, database)


class SimEdge:
    """The public URL of every space, answered from what its stack and its machines are."""

    def __init__(self, estate: Estate) -> None:
        self._estate = estate
        self._asked = 0

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        content_type: str | None = None,
    ) -> Answer:
        del body, content_type
        parts = urlsplit(url)
        stack = self._estate.stack_of(parts.hostname or "")
        if stack is None:
            return answer(404, {"title": "the edge does not know this name"})
        return self._estate.serve(stack, method, parts.path)

    def turn(self, of: int) -> int:
        """Round robin."""
        self._asked += 1
        return self._asked % of


class Estate:
    """The platform: `ports` are its doors, `react` lets it do what it does by itself."""

    def __init__(self) -> None:
        clock = FakeClock()
        self.clock = clock
        self.bus = SimBus(clock)
        self.arm = SimArm(clock)
        self.data = SimData()
        self.databases = SimDatabases(self.data, self.arm)
        self.edge = SimEdge(self)
        self.served: dict[str, Served] = {}
        self.billing = FakeBilling()
        self.ports = fake_ports(
            clock=clock,
            bus=self.bus,
            arm=self.arm,
            databases=self.databases,
            edge=self.edge,
            billing=self.billing,
        )
        self.tables: FakeTables = self.ports.tables  # pyright: ignore[reportAttributeAccessIssue]
        self.secrets: FakeSecrets = self.ports.secrets  # pyright: ignore[reportAttributeAccessIssue]
        self.accounts: FakeAccounts = self.ports.accounts  # pyright: ignore[reportAttributeAccessIssue]

    def copy(self) -> Estate:
        """The same once more; nothing is shared but the template."""
        return frozen(self)()

    def react(self) -> None:
        """What the platform does by itself: servers and machines come and go with their stacks."""
        for name in self.arm.names():
            if self.arm.is_done(name):
                self._stand(name)
        for name in [name for name in self.served if name not in self.arm.names()]:
            self._fall(name)

    def stack_of(self, host: str) -> str | None:
        """The stack whose route this host name is."""
        for name in self.arm.names():
            request = self.arm.request(name)
            if request.parameters["hostName"] == host and name in self.served:
                return name
        return None

    def serve(self, name: str, method: str, path: str) -> Answer:
        """The answer of one machine, if one is there and can work."""
        told, served = self.arm.request(name).parameters, self.served[name]
        where = outputs(self.arm.request(name))
        group = str(where["resourceGroup"])
        machines = self.arm.machines.get((group, str(where["scaleSet"])), [])
        running = machines if self.arm.runs(PartKind.MACHINES, group) else []
        ready = served.ready_at is not None and served.ready_at <= self.clock.now()
        if not told["routeEnabled"] or not running or served.settings is None or not ready:
            return answer(503, {"title": "nobody is there"})
        trouble = self._trouble(where, served.settings)
        if trouble:
            return answer(503, {"title": trouble})
        match method, path:
            case "GET", "/healthz":
                one = running[self.edge.turn(len(running))]
                found = {
                    "instance": one.name,
                    "zone": one.zone,
                    "release": served.settings["release"],
                    "space_id": served.settings["space_id"],
                    "revision": served.settings["revision"],
                }
                return answer(200, found)
            case "GET", "/api/devices":
                return answer(200, [])
            case _:
                return answer(404, {"title": "not found"})

    def _trouble(self, where: dict[str, object], told: dict[str, Any]) -> str:
        host, base = str(where["databaseHost"]), told["database"]
        server = self.databases.servers.get(host)
        if server is None or not self.arm.serves(host):
            return "the database server does not answer"
        if base["name"] not in server.owners:
            return "the database is gone"
        if not base["password"] or server.roles.get(base["user"]) != base["password"]:
            return "the database refuses the password"
        account = str(where["storageAccount"])
        said = told["storage"].get("connection_string")
        if said and not any(f"AccountKey={key};" in said for key in self._keys(account)):
            return "the account refuses the key"
        return ""

    def _keys(self, account: str) -> list[str]:
        """The keys that open an account now."""
        renewed = self.accounts.keys
        texts = [f"key{key}/{renewed.get((account, key), 0)}" for key in (1, 2)]
        return [base64.b64encode(text.encode()).decode() for text in texts]

    def _stand(self, name: str) -> None:
        request = self.arm.request(name)
        where, revision = outputs(request), str(request.parameters["configRevision"])
        host = str(where["databaseHost"])
        password = str(request.parameters["databaseAdminPassword"])
        server = self.databases.servers.setdefault(
            host, FakeServer(str(where["databaseAdminUser"]), password)
        )
        server.password = password
        served = self.served.get(name)
        shape = (revision, str(request.parameters["plan"]))
        group, scale_set = str(where["resourceGroup"]), str(where["scaleSet"])
        if served is None or served.shape != shape:
            self.arm.start_machines(group, scale_set, ZONES[Tier(shape[1])])
            served = self.served[name] = Served(shape=shape)
        if not self.arm.runs(PartKind.MACHINES, group):
            served.settings = None  # what starts reads them anew
            self.data.busy.pop(host, None)
        elif served.settings is None:
            found = self.secrets.versions(str(where["vaultUri"]), SETTINGS_SECRET)
            served.settings = json.loads(found[-1]) if found else None
            if served.settings is not None:
                served.boot_s = self.arm.manners.chance.uniform(*self.arm.manners.boot_s)
                served.ready_at = self.clock.now() + timedelta(seconds=served.boot_s)
                self.data.busy[host] = {str(served.settings["database"]["name"]): 2}

    def _fall(self, name: str) -> None:
        """The stack is gone, and all that it held."""
        where = outputs_of(name)
        host = str(where["databaseHost"])
        del self.served[name]
        self.databases.servers.pop(host, None)
        self.data.busy.pop(host, None)
        for address, database in [key for key in self.data.tables if key[0] == host]:
            self.data.forget(address, database)
        self.accounts.spaces.pop(str(where["storageAccount"]), None)
        self.arm.machines.pop((str(where["resourceGroup"]), str(where["scaleSet"])), None)


class _Pickler(pickle.Pickler):
    """The template is the same in every world: it is not copied."""

    def persistent_id(self, obj: Any) -> str | None:
        return "template" if obj is TEMPLATE else None


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        del pid
        return TEMPLATE


def frozen(estate: Estate) -> Callable[[], Estate]:
    """An estate as bytes; each call gives one more of it."""
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=5).dump(estate)
    raw = buffer.getvalue()
    return lambda: _Unpickler(io.BytesIO(raw)).load()  # our own bytes
