"""One space from its opening to its end, over the real steps of both rooms and the fakes.

Machines read their settings when they start or when the stack has a new revision; they serve only
while their route is open, they run, and the database takes the login that they were told.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from backups.plans import QUEUE
from provisioning.plans import PLANS
from provisioning.plans import QUEUE as STEPS
from spaces import audit, configuration, names, power, strays
from spaces.desire import overridden
from spaces.messages import Poke
from spaces.model import OpKind, OpStatus, Override, Space, Status, Wish
from spaces.ports import Instance, Server, StackState
from spaces.registry import HOST_ROW, HOSTS
from spaces.saga.begin import Cause, begin
from spaces.saga.outline import OUTLINES
from spaces.saga.runner import advance
from tests.backups import world as backups_world
from tests.backups.world import FILES, ROWS, SITE, Counter, Stopped
from tests.builders import some_resources
from tests.fakes import space_app
from tests.fakes.edge import answer

if TYPE_CHECKING:
    from spaces.model import Facts
    from spaces.ports import Answer, StackRequest
    from tests.fakes import Received
    from tests.fakes.edge import Request

ZONES = {"starter": ("1", "2"), "standard": ("1", "2"), "premium": ("1", "2", "3")}
# What an operator's word over billing's says beside starting these.
WISHES = {
    OpKind.SUSPEND: Wish.SUSPENDED,
    OpKind.RESUME: Wish.ACTIVE,
    OpKind.CANCEL: Wish.CANCELLED,
}
CLUSTER_VAULT = "https://kv-kx-france.vault.azure.net/"


class World(backups_world.World):
    """`open` it, `do` an operation, `settle`, then look."""

    def __init__(self, counter: Counter | None = None, **space: Any) -> None:
        super().__init__(counter, **space)
        self.arm._outputs = _outputs
        self.sick: set[str] = set()
        """Revisions under which the machines do not come up."""

    async def open(self) -> World:
        """Make the space as its provisioning would have left it, with its login in the vault."""
        await super().open()
        server = await configuration.admin_server(self.bare, self.settings, self.first)
        password = await configuration.role_password(self.bare, self.settings, self.first)
        await self.bare.databases.ensure_role(server, configuration.APP_ROLE, password)
        self.databases.runs = self._database_runs
        return self

    @property
    def stack(self) -> str:
        return names.stack(self.first)

    async def do(self, kind: OpKind, *, key: str = "", **params: str) -> str:
        """Start an operation as an operator's request does, calmly; answers its id."""
        loaded = await self.registry.require(self.first.space_id)
        told: Facts = {**params}
        now, wish = self.clock.now(), WISHES.get(kind)
        override = wish and Override(wish=wish, reason="a test", actor="key:ops", at=now)
        cause = Cause(
            actor="key:ops",
            source="test",
            cause_id=key or f"{kind}-{loaded.etag}",
            params=told,
            change=lambda space: overridden(space, override, now) if override else space,
        )
        return (await begin(self.bare, loaded, OUTLINES[kind], cause)).op_id

    async def done(self, kind: OpKind, **params: str) -> Space:
        """An operation from its start to its good end."""
        op_id = await self.do(kind, **params)
        await self.settle()
        row = await self.operation(op_id)
        assert row.status is OpStatus.SUCCEEDED, row.error
        return await self.space()

    async def pump(self) -> None:
        """Let the functions of both queues work, dying where the counter says."""
        while True:
            await self._react()
            try:
                handlers = {QUEUE: self._on_run, STEPS: self._on_step}
                if not await self.bus.pump(handlers, most=400):
                    return
            except Stopped:
                self.counter.dead = False
                self.clock.advance(31)

    async def _on_step(self, item: Received) -> None:
        poke = msgspec.json.decode(item.body, type=Poke)
        await advance(
            self.ports,
            PLANS,
            poke,
            message_id=item.message.message_id,
            floor_s=self.floor_s,
        )

    # --- what the platform does -----------------------------------------------------------------

    async def _react(self) -> None:
        """Machines read their settings when they start, and when their revision is a new one."""
        if self.stack not in self.arm.names():
            self.edge.stop(SITE)
            return
        request = self.arm.request(self.stack)
        if (await self.arm.get_stack(self.stack)).state is not StackState.SUCCEEDED:
            return
        zones = ZONES[str(request.parameters["plan"])]
        machines = power.machines(self.first)
        assert machines is not None
        self.arm.start_machines(machines.resource_group, machines.name, zones)
        if not self.arm.is_on(machines):
            self.serving = {}
        elif self.serving.get("revision") != request.parameters["configRevision"]:
            text = await self.bare.secrets.get(self.vault, names.SETTINGS_SECRET)
            told = json.loads(text or "{}")
            self.serving = {
                "revision": request.parameters["configRevision"],
                "database": told["database"]["name"],
                "container": told["storage"]["container"],
                "told": told,
            }
            self.data.busy = {self.serving["database"]: 2}
        self.edge.serve(SITE, self._site(zones, open=bool(request.parameters["routeEnabled"])))

    def _site(self, zones: tuple[str, ...], *, open: bool) -> Any:  # noqa: A002
        healthy = space_app(space_id=self.first.space_id, zones=zones)

        def site(request: Request) -> Answer:
            machines = power.machines(self.first)
            assert machines is not None
            revision = str(self.serving.get("revision"))
            if not open or not self.arm.is_on(machines) or revision in self.sick:
                return answer(503, {"title": "suspended or starting"})
            return healthy(request) if self._opens() else answer(503, {"title": "database"})

        return site

    def _opens(self) -> bool:
        """Whether the server takes the login that the machines were told."""
        told = self.serving["told"]["database"]
        server = self.databases.servers[self.address]
        runs = self._database_runs(self.address)
        return runs and server.roles.get(told["user"]) == told["password"] != ""

    def _database_runs(self, address: str) -> bool:
        part = power.database(self.first)
        assert part is not None
        there = self.stack in self.arm.names()
        return address != self.address or (there and self.arm.is_on(part))

    # --- looking ----------------------------------------------------------------------------------

    @property
    def address(self) -> str:
        assert self.first.resources is not None
        return self.first.resources.database_host

    @property
    def vault(self) -> str:
        assert self.first.resources is not None
        return self.first.resources.vault_uri

    async def answers(self) -> int:
        """The status that a customer gets."""
        await self._react()
        return (await self.bare.edge.request("GET", f"{SITE}/healthz")).status

    def zones(self) -> set[str]:
        """Where machines run."""
        machines = power.machines(self.first)
        assert machines is not None
        found: list[Instance] = self.arm.machines[machines.resource_group, machines.name]
        return {one.zone for one in found} if self.arm.is_on(machines) else set()

    def is_asleep(self) -> bool:
        """True when neither machines nor database run."""
        parts = (power.machines(self.first), power.database(self.first))
        return not any(part is not None and self.arm.is_on(part) for part in parts)

    def is_awake(self) -> bool:
        parts = (power.machines(self.first), power.database(self.first))
        return all(part is not None and self.arm.is_on(part) for part in parts)

    async def accepts(self, login: str, password: str) -> bool:
        """Whether the space's server lets somebody in."""
        server = Server(address=self.address, user="kpax_admin", password="")
        return await self.bare.databases.accepts(server, "app", login, password)

    async def host(self) -> dict[str, Any] | None:
        row = await self.bare.tables.get(HOSTS, self.first.name, HOST_ROW)
        return None if row is None else dict(row.values)

    async def kept_data(self) -> bool:
        """Rows and files are what the customer left, under the names that the row says."""
        space = await self.space()
        base = await self.places.base(self.bare, replace(self.first), space.database)
        files = await self.files(space.container)
        stored = {
            info.name: await files.read(space.container, info.name)
            async for info in files.list(space.container)
        }
        return self.data.rows(base) == ROWS and stored == FILES

    async def nothing_is_loose(self) -> None:
        """No operation, watch or stray; the audit chain whole; every event said once, in order."""
        loaded = await self.registry.require(self.first.space_id)
        assert loaded.space.op is None
        assert await self.bare.tables.query("activeops") == []
        assert await strays.all_of(self.bare.tables) == []
        entries = await self.registry.audit_entries(self.first.space_id)
        assert audit.first_break(entries, loaded.head) is None
        prefix = f"{self.first.space_id}-ev-"
        said = {m.message_id for m in self.bus.sent if m.message_id.startswith(prefix)}
        assert len(said) == loaded.space.event_seq
        for queue in (QUEUE, STEPS):
            assert (await self.bare.bus.depths([queue]))[0].dead_letter == 0

    def events(self) -> list[str]:
        """The types of what was published, in order."""
        told: dict[str, str] = {}
        for message in self.bus.sent:
            if message.queue == "space-events":
                told[message.message_id] = json.loads(message.body)["type"]
        return [told[key] for key in sorted(told)]


def _outputs(request: StackRequest) -> dict[str, object]:
    space_id = str(request.parameters["spaceId"])
    number = request.parameters["incarnation"]
    assert isinstance(number, int)
    found = some_resources(space_id, incarnation=number)
    return {
        "resourceGroup": found.resource_group,
        "databaseHost": found.database_host,
        "databaseAdminUser": found.database_admin_user,
        "blobEndpoint": found.blob_endpoint,
        "storageAccount": found.storage_account,
        "vaultUri": found.vault_uri,
        "scaleSet": found.scale_set,
    }


__all__ = [
    "CLUSTER_VAULT",
    "Counter",
    "OpKind",
    "OpStatus",
    "Space",
    "Status",
    "World",
    "configuration",
]
