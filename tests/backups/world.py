"""A small world around the real steps: fakes that react to each other, a clock that jumps.

The database is one of rows in memory; everything else of the engine is real: sealing, packs, keys,
manifests. The stack's PUT restarts the machines, which then read the space's settings anew. A
process can be stopped before or after any call of any port.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from backups import catalogue, nightly
from backups.api import start_backup, start_restore
from backups.manifest import DatabaseContents, SequenceContents, TableContents
from backups.places import Places
from backups.plans import QUEUE, plans_of
from backups.triggers import decoded
from spaces import audit, configuration, names
from spaces.errors import InvalidError
from spaces.messages import RunRequest
from spaces.model import OpKind, Space, Status
from spaces.ports import Insert, Message, Ports, Server
from spaces.registry import DIRECTORY, HOST_ROW, HOSTS, Change, Registry
from spaces.saga.asked import Asker
from spaces.saga.runner import advance
from spaces.saga.sweep import sweep
from tests.builders import a_space, some_settings
from tests.fakes import (
    FakeArm,
    FakeBus,
    FakeClock,
    FakeDatabases,
    FakeEdge,
    Received,
    fake_ports,
    space_app,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from backups.catalogue import BackupRow
    from backups.engine import Base
    from spaces.ports import StackRequest
    from tests.fakes import FakeBlobs

GRACE_S = 90
ROWS = {"devices": ["1 Pumpe", "2 Sensor"], "readings": ["1 20.5", "2 21.0", "2 21.0"]}
FILES = {"d/1.pdf": b"a contract " * 9000, "d/2.txt": b"", "d/3.txt": b"third"}
SITE = "http://acme.france.localhost:8080"


class Stopped(BaseException):
    """The process died here; nothing after this line ran."""


@dataclass(slots=True)
class Counter:
    """Counts port calls; stops the process once, at call `at`, on its `side`.

    A dead process makes no more calls, not even those that its `finally` would have made.
    """

    at: int = 0
    side: str = "before"
    seen: int = 0
    stopped: bool = False
    dead: bool = False
    calls: list[str] = field(default_factory=list[str])

    def step(self, name: str, side: str) -> None:
        if self.dead:
            raise Stopped
        if side == "before":
            self.seen += 1
            self.calls.append(name)
        if not self.stopped and self.at == self.seen and self.side == side:
            self.stopped = self.dead = True
            raise Stopped


class _Stopping:
    """A port whose calls are counted; accounts answer blobs that are counted too."""

    def __init__(self, port: Any, count: Counter) -> None:
        self._port = port
        self._count = count

    def __getattr__(self, name: str) -> Any:
        target = getattr(self._port, name)
        if not callable(target):
            return target
        if name == "backup_of":
            return lambda cluster: _Stopping(target(cluster), self._count)
        if name == "list":
            return lambda *a, **k: self._listed(target(*a, **k))

        async def call(*args: Any, **kwargs: Any) -> Any:
            self._count.step(f"{type(self._port).__name__}.{name}", "before")
            result = await target(*args, **kwargs)
            self._count.step(f"{type(self._port).__name__}.{name}", "after")
            return _Stopping(result, self._count) if name == "of_space" else result

        return call

    async def _listed(self, found: AsyncIterator[Any]) -> AsyncIterator[Any]:
        self._count.step("FakeBlobs.list", "before")
        async for item in found:
            yield item
        self._count.step("FakeBlobs.list", "after")


class FakeData:
    """Databases of rows in memory."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], dict[str, list[str]]] = {}
        self.busy: dict[str, int] = {}
        self.stuck: dict[str, int] = {}
        self.loads = 0

    def rows(self, base: Base) -> dict[str, list[str]]:
        """The tables of a database and their rows."""
        return self._rows.setdefault((base.server.address, base.database), {})

    def forget(self, server: Server, database: str) -> None:
        """The database is dropped."""
        self._rows.pop((server.address, database), None)

    async def dump(self, base: Base, sink: Callable[[bytes], None]) -> DatabaseContents:
        sink(json.dumps(self.rows(base)).encode())
        return await self.contents(base)

    async def load(self, base: Base, dump: AsyncIterator[bytes]) -> None:
        self.loads += 1
        told = b"".join([piece async for piece in dump])
        rows = self.rows(base)
        if rows:
            raise InvalidError("pg_restore failed: a table is there", slug="dump-refused")
        for table, lines in json.loads(told).items():
            rows.setdefault(table, []).extend(lines)

    async def contents(self, base: Base) -> DatabaseContents:
        rows = self.rows(base)
        tables = [
            TableContents(
                name=name,
                columns="told text",
                rows=len(lines),
                sha256=hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest(),
            )
            for name, lines in sorted(rows.items())
        ]
        sequence = SequenceContents(name="ids", lowest=2, highest=2, called=[True])
        return DatabaseContents(
            server_version="18.6",
            encoding="UTF8",
            tables=tables,
            sequences=[sequence],
            census={"relation r": len(tables)},
        )

    async def sessions(self, server: Server, role: str) -> dict[str, int]:
        del server, role
        return {**self.busy, **self.stuck}


class Databases(FakeDatabases):
    """Databases whose rows go when they are dropped."""

    def __init__(self, data: FakeData) -> None:
        super().__init__()
        self._data = data

    async def drop_database(self, server: Server, database: str) -> None:
        self._data.forget(server, database)
        await super().drop_database(server, database)


class World:
    """One active space with rows and files: `back_up`, `restore`, `settle`, then look."""

    def __init__(self, counter: Counter | None = None, **space: Any) -> None:
        self.settings = some_settings(KPAX_POLL_FLOOR_S="0.5")
        self.clock = FakeClock()
        self.bus = FakeBus(self.clock)
        self.arm = FakeArm(self.clock, outputs=_outputs)
        self.edge = FakeEdge()
        self.data = FakeData()
        self.databases = Databases(self.data)
        self.counter = counter or Counter()
        self.bare = fake_ports(
            clock=self.clock,
            bus=self.bus,
            arm=self.arm,
            edge=self.edge,
            databases=self.databases,
        )
        self.places = Places(self.settings, self.data)
        self.plans = plans_of(self.places)
        counted = ("tables", "bus", "arm", "databases", "secrets", "keys", "edge", "accounts")
        self.ports: Ports = replace(
            self.bare,
            **{name: _Stopping(getattr(self.bare, name), self.counter) for name in counted},
        )
        self.registry = Registry(self.bare.tables)
        self.first = a_space(**{"backup_region": "francesouth", **space})
        self.serving: dict[str, Any] = {}
        self.floor_s = 0.5

    async def open(self) -> World:
        """Make the space as its provisioning would have left it."""
        space, ports = self.first, self.bare
        entry = audit.Entry(act="opened", actor="test", obj=space.space_id, detail={})
        await self.registry.create(Change(space=space, entry=entry), now=self.clock.now())
        await ports.tables.commit(DIRECTORY, space.cluster, [Insert(space.space_id, {})])
        await ports.tables.commit(
            HOSTS, space.name, [Insert(HOST_ROW, {"space_id": space.space_id})]
        )
        server = await configuration.admin_server(ports, self.settings, space)
        await ports.databases.ensure_role(server, configuration.APP_ROLE, "pw")
        await ports.databases.ensure_database(
            server, space.database, owner=configuration.APP_ROLE
        )
        base = await self.places.base(ports, space, space.database)
        self.data.rows(base).update({name: list(lines) for name, lines in ROWS.items()})
        files = await self.files(space.container)
        await files.ensure_container(space.container)
        for name, data in FILES.items():
            files.put(space.container, name, data, content_type="application/pdf")
        text = await configuration.application_settings(ports, self.settings, space)
        assert space.resources is not None
        await ports.secrets.put_version(space.resources.vault_uri, names.SETTINGS_SECRET, text)
        password = await configuration.admin_password(ports, self.settings, space)
        await self.arm.put_stack(
            configuration.stack_request(space, self.settings, admin_password=password)
        )
        self.edge.serve(SITE, space_app(space_id=space.space_id))
        await self._react()
        return self

    async def back_up(self, key: str = "k-1") -> str:
        """Start a backup by HTTP's function; answers the operation's id."""
        view = await start_backup(self.bare, "acme", Asker(caller="key:default", key=key))
        return view.operation_id

    async def restore(self, backup_id: str = "latest", key: str = "r-1") -> str:
        """Start a restore; answers the operation's id."""
        view = await start_restore(
            self.bare, "acme", backup_id, Asker(caller="key:default", key=key)
        )
        return view.operation_id

    async def destroy(self) -> None:
        """Drop the tables and delete the files behind the space's back."""
        space = await self.space()
        self.data.rows(await self.places.base(self.bare, space, space.database)).clear()
        files = await self.files(space.container)
        for name in FILES:
            await files.delete(space.container, name)

    async def request(self, slot: str = "2026-11-23:run:600", *, waits: int = 0) -> None:
        """Put a run request on the queue, as the dispatcher does."""
        asked = RunRequest(space_id=self.first.space_id, slot=slot, waits=waits)
        body = json.dumps(
            {"v": 1, "kind": "backup-due", "space_id": asked.space_id, "slot": slot}
        )
        await self.bus.send(
            [Message(queue=QUEUE, message_id=f"{asked.space_id}:{slot}", body=body)]
        )

    async def pump(self) -> None:
        """Let the run queue's function work, dying where the counter says."""
        while True:
            await self._react()
            try:
                if not await self.bus.pump({QUEUE: self._on_run}, most=400):
                    return
            except Stopped:
                self.counter.dead = False
                self.clock.advance(31)  # the queue's lock of the dead process runs out

    async def settle(self, *, hours: float = 3.0) -> None:
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
                await sweep(self.bare, grace_s=GRACE_S)

    async def space(self) -> Space:
        return (await self.registry.require(self.first.space_id)).space

    async def operation(self, op_id: str) -> Any:
        told = await self.registry.operation(self.first.space_id, op_id)
        assert told is not None
        return told[0]

    async def rows(self) -> list[BackupRow]:
        return await catalogue.rows(self.bare.tables, self.first.space_id)

    async def files(self, container: str) -> FakeBlobs:
        del container
        space = self.first
        assert space.resources is not None
        found: Any = await self.bare.accounts.of_space("", space.resources.storage_account, "")
        return found

    @property
    def vaulted(self) -> FakeBlobs:
        """The backup account."""
        found: Any = self.bare.accounts.backup_of(self.first.cluster)
        return found

    async def stored(self) -> dict[str, bytes]:
        """All objects of the space's backups."""
        container = self.first.space_id
        return {
            info.name: await self.vaulted.read(container, info.name)
            async for info in self.vaulted.list(container)
        }

    async def served(self) -> tuple[dict[str, list[str]], dict[str, bytes]]:
        """Rows and files as the machines serve them, by the settings they last read."""
        base = await self.places.base(self.bare, self.first, self.serving["database"])
        files = await self.files("")
        container = self.serving["container"]
        found = {
            info.name: await files.read(container, info.name)
            async for info in files.list(container)
        }
        return self.data.rows(base), found

    async def databases_there(self) -> list[str]:
        server = await configuration.admin_server(self.bare, self.settings, self.first)
        return await self.bare.databases.databases(server)

    async def told(self) -> dict[str, Any]:
        """The settings in force in the space's vault."""
        assert self.first.resources is not None
        text = await self.bare.secrets.get(
            self.first.resources.vault_uri, names.SETTINGS_SECRET
        )
        return json.loads(text or "{}")

    async def _on_run(self, item: Received) -> None:
        told = decoded(item.body)
        if isinstance(told, RunRequest):
            await nightly.start(self.ports, told)
            return
        await advance(
            self.ports,
            self.plans,
            told,
            message_id=item.message.message_id,
            floor_s=self.floor_s,
        )

    async def _react(self) -> None:
        """What the platform does by itself: a new revision restarts the machines."""
        request = self.arm.request(names.stack(self.first))
        revision = request.parameters["configRevision"]
        if self.serving.get("revision") == revision:
            return
        told = await self.told()
        self.serving = {
            "revision": revision,
            "database": told["database"]["name"],
            "container": told["storage"]["container"],
        }
        self.data.busy = {self.serving["database"]: 2}


def _outputs(request: StackRequest) -> dict[str, object]:
    del request
    return {}


__all__ = ["FILES", "ROWS", "Counter", "OpKind", "Status", "Stopped", "World"]
