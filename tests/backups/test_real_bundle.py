"""The engine on a real PostgreSQL and a real Azurite: captured, destroyed, restored, proved."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import pytest_asyncio

from backups import census
from backups.bundle import BundleEngine
from backups.dumps import PostgresData
from backups.engine import Base, Files, Label, Store
from local.home import Home
from local.postgres import PostgresServers, binaries
from spaces.adapters.blobs import AzureBlobs
from spaces.adapters.databases import PostgresDatabases
from spaces.adapters.wire import Wire
from spaces.configuration import ADMIN_USER, APP_ROLE
from spaces.errors import DamagedError, InvalidError
from spaces.model import BackupId, SpaceId
from spaces.ports import Server
from tests.fakes import CLUSTER_VAULTS, START, FakeClock, FakeIds, FakeKeys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from backups.manifest import Manifest
    from backups.session import Connection
    from local.azurite import AzuriteAccounts

pytestmark = pytest.mark.stack

SCHEMA = """
CREATE TYPE colour AS ENUM ('rot', 'grün');
CREATE DOMAIN percent AS numeric CHECK (VALUE BETWEEN 0 AND 100);
CREATE TABLE devices (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL,
    paint colour, load percent, seen timestamptz, raw bytea, told jsonb, price money,
    shout text GENERATED ALWAYS AS (upper(name)) STORED);
CREATE TABLE "Weird Table" ("order" integer, "r_" text);
CREATE TABLE nothing ();
CREATE TABLE empty_one (id integer PRIMARY KEY);
CREATE TABLE readings (at date NOT NULL, value double precision) PARTITION BY RANGE (at);
CREATE TABLE readings_old PARTITION OF readings FOR VALUES FROM ('2020-01-01') TO ('2026-01-01');
CREATE TABLE readings_new PARTITION OF readings FOR VALUES FROM ('2026-01-01') TO ('2030-01-01');
CREATE SEQUENCE tickets INCREMENT BY -3 START -1;
CREATE VIEW hot AS SELECT * FROM devices WHERE load > 50;
CREATE FUNCTION twice(n integer) RETURNS integer LANGUAGE sql AS 'SELECT n * 2';
CREATE INDEX by_name ON devices (lower(name));
ALTER TABLE devices ENABLE ROW LEVEL SECURITY;
ALTER TABLE devices FORCE ROW LEVEL SECURITY;
CREATE POLICY mine ON devices USING (name LIKE 'Kundengerät%');
INSERT INTO devices (name, paint, load, seen, raw, told, price)
    SELECT 'Kundengerät ' || n, 'grün', n % 100,
        '2026-11-23 10:00+02'::timestamptz + n * '1 s'::interval,
        decode(md5(n::text), 'hex'), jsonb_build_object('n', n), n FROM generate_series(1, 5000) n;
INSERT INTO "Weird Table" VALUES (1, NULL), (2, 'Geheimrezept'), (2, 'Geheimrezept');
INSERT INTO nothing DEFAULT VALUES;
INSERT INTO readings SELECT '2025-06-01'::date + n, 0.1 + n / 3.0 FROM generate_series(1, 400) n;
SELECT nextval('tickets'), nextval('tickets');
GRANT SELECT ON devices TO reader;
"""

SECRETS = (
    b"Kundenger",
    b"Geheimrezept",
    b"devices",
    b"Weird",
    b"Vertrag",
    b"plain bytes of a file",
)
FILES = {
    "d/1-Vertrag Müller.pdf": b"plain bytes of a file " * 3000,
    "d/2-leer.txt": b"",
    "d/4.txt": b"four",
}
LARGE = hashlib.shake_256(b"large").digest(18 << 20)


@dataclass(frozen=True, slots=True)
class Estate:
    engine: BundleEngine
    store: Store
    base: Base
    files: Files
    server: Server
    databases: PostgresDatabases

    def label(self, number: int = 1) -> Label:
        return Label(
            space_id=self.store.space_id,
            backup_id=BackupId(f"bkp-{number:06}-20261123T100000Z"),
            operation_id=f"op-{self.store.space_id}-{number:04}",
            cluster="france",
            azure_region="francecentral",
            backup_region="francesouth",
            started_at=START,
        )

    async def back_up(self, number: int = 1) -> Manifest:
        label = self.label(number)
        told: dict[str, object] = {"release": "2026.11.1"}
        captured = await self.engine.backup(self.store, self.base, self.files, label, told)
        until = captured.completed_at + timedelta(days=30)
        return await self.engine.publish(self.store, label, captured, expires_at=until)

    async def fresh(self, database: str) -> Base:
        await self.databases.drop_database(self.server, database)
        await self.databases.ensure_database(self.server, database, owner=APP_ROLE)
        return Base(server=self.server, database=database)

    def beside(self, container: str) -> Files:
        return Files(blobs=self.files.blobs, container=container)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, Server]]:
    """One database server for the module; each test has a database of its own."""
    home = Home.open(tmp_path_factory.mktemp("pg") / "home")
    servers = PostgresServers(home)
    try:
        here = asyncio.run(
            servers.ensure("s", admin_user=ADMIN_USER, admin_password="a-secret")
        )
        address = f"{here.host}:{here.port}"
        yield home, Server(address=address, user=ADMIN_USER, password="a-secret")
    finally:
        asyncio.run(servers.delete("s"))


@pytest_asyncio.fixture
async def estate(
    machine: tuple[Home, Server], azurite: AzuriteAccounts, request: pytest.FixtureRequest
) -> AsyncIterator[Estate]:
    """A space with rows and files, and the store of its backups."""
    home, server = machine
    tag = hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    space_account = await azurite.ensure(f"kx{tag}")
    backup_account = await azurite.ensure(f"kxbak{tag}")
    wire = Wire()
    live = AzureBlobs(wire, connection=space_account.connection_string)
    kept = AzureBlobs(wire, connection=backup_account.connection_string)
    databases = PostgresDatabases()
    database = f"app_{tag}"
    await databases.ensure_role(server, APP_ROLE, "app-secret")
    await databases.ensure_role(server, "reader", "reader-secret")
    await databases.ensure_database(server, database, owner=APP_ROLE)
    async with connected(server, database, user=APP_ROLE, password="app-secret") as session:
        await session.execute(SCHEMA)
    async with connected(server, database) as session:
        await session.execute("SELECT lo_from_bytea(0, '\\xdeadbeef')")
    await live.ensure_container("attachments")
    for name, data in FILES.items():
        await live.create("attachments", name, data, content_type="application/x-kpax")
    clock = FakeClock()
    yield Estate(
        engine=BundleEngine(
            keys=FakeKeys(list(CLUSTER_VAULTS.values())),
            data=PostgresData(binaries(home)),
            ids=FakeIds(tag),
            clock=clock,
        ),
        store=Store(
            space_id=SpaceId(f"s-{tag}"),
            blobs=kept,
            container=f"s-{tag}",
            vault=CLUSTER_VAULTS["france"],
        ),
        base=Base(server=server, database=database),
        files=Files(blobs=live, container="attachments"),
        server=server,
        databases=databases,
    )
    await live.close()
    await kept.close()
    await wire.close()


@contextlib.asynccontextmanager
async def connected(
    server: Server, database: str, *, user: str | None = None, password: str | None = None
) -> AsyncIterator[Any]:
    host, _, port = server.address.partition(":")
    session = await asyncpg.connect(
        host=host,
        port=int(port),
        user=user or server.user,
        password=password or server.password,
        database=database,
    )
    try:
        yield session
    finally:
        await session.close()


async def stored(estate: Estate) -> dict[str, bytes]:
    store = estate.store
    return {
        info.name: await store.blobs.read(store.container, info.name)
        async for info in store.blobs.list(store.container)
    }


async def test_a_space_comes_back_row_for_row_after_it_was_destroyed(estate: Estate) -> None:
    await estate.files.blobs.create("attachments", "d/3-groß.bin", LARGE)
    manifest = await estate.back_up()
    assert (manifest.rows, manifest.attachments) == (5000 + 3 + 1 + 400 + 1, len(FILES) + 1)
    await estate.engine.verify(estate.store, manifest, await estate.fresh("verify_1"))
    before = await PostgresData(None).contents(estate.base)
    async with connected(estate.server, estate.base.database) as session:
        await session.execute("DROP TABLE devices, readings CASCADE; DROP FUNCTION twice")
    await estate.files.blobs.delete_container("attachments")

    base, files = await estate.fresh("app_r2"), estate.beside("attachments-r2")
    await estate.engine.restore(estate.store, manifest, base, files)
    await estate.engine.prove(estate.store, manifest, base, files)

    assert await PostgresData(None).contents(base) == before
    for name, data in FILES.items():
        assert await files.blobs.read(files.container, name) == data
        info = await files.blobs.info(files.container, name)
        assert info is not None
        assert info.content_type == "application/x-kpax"
    assert await files.blobs.read(files.container, "d/3-groß.bin") == LARGE


async def test_the_roles_keep_their_rights_and_no_more(estate: Estate) -> None:
    manifest = await estate.back_up()
    base, files = await estate.fresh("app_r3"), estate.beside("attachments-r3")
    await estate.engine.restore(estate.store, manifest, base, files)
    async with connected(
        estate.server, "app_r3", user=APP_ROLE, password="app-secret"
    ) as session:
        await session.execute("INSERT INTO devices (name) VALUES ('Kundengerät neu')")
        assert await session.fetchval("SELECT id FROM devices ORDER BY id DESC LIMIT 1") == 5001
        await session.execute("ALTER TABLE devices ADD COLUMN more text")
        await session.execute("GRANT CONNECT ON DATABASE app_r3 TO reader")
    async with connected(
        estate.server, "app_r3", user="reader", password="reader-secret"
    ) as session:
        assert await session.fetchval("SELECT count(*) FROM devices") == 5001
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await session.execute("SELECT * FROM empty_one")


async def test_a_restore_that_was_cut_off_is_repeated_to_the_same_end(estate: Estate) -> None:
    manifest = await estate.back_up()
    files = estate.beside("attachments-r4")
    await files.blobs.ensure_container(files.container)
    await files.blobs.create(
        files.container, "d/4.txt", FILES["d/4.txt"], content_type="application/x-kpax"
    )
    for _ in range(2):
        base = await estate.fresh("app_r4")
        await estate.engine.restore(estate.store, manifest, base, files)
    await estate.engine.prove(estate.store, manifest, base, files)


async def test_nothing_of_the_customers_can_be_found_in_the_container(estate: Estate) -> None:
    await estate.files.blobs.create("attachments", "d/3-groß.bin", LARGE)
    await estate.back_up()
    objects = await stored(estate)
    assert len(objects) >= 6
    for name, data in objects.items():
        for secret in SECRETS:
            assert secret not in data, name
            assert secret.decode() not in name
    for at in (0, 9 << 20):
        assert not any(LARGE[at : at + 16] in data for data in objects.values())


async def test_a_backup_beside_writers_is_one_moment_of_the_database(estate: Estate) -> None:
    stop, warm = asyncio.Event(), asyncio.Event()
    written = 0

    async def write() -> None:
        nonlocal written
        async with connected(estate.server, estate.base.database) as session:
            while not stop.is_set():
                await session.execute(
                    "WITH d AS (INSERT INTO devices (name) VALUES ('Kundengerät x'))"
                    " UPDATE readings SET value = value + 1 WHERE at = '2025-06-02'"
                )
                await session.execute("SELECT nextval('tickets')")
                written += 1
                warm.set()

    writer = asyncio.create_task(write())
    try:
        await warm.wait()
        manifest = await estate.back_up()
    finally:
        stop.set()
        await writer
    assert written > 5
    await estate.engine.verify(estate.store, manifest, await estate.fresh("verify_2"))


HARMS = {
    "UPDATE devices SET load = load + 1 WHERE id = 77": "devices has other rows",
    "DELETE FROM readings WHERE at = '2025-06-02'": "readings_old has other rows",
    'INSERT INTO "Weird Table" VALUES (1, NULL)': 'Weird Table" has other rows',
    "CREATE TABLE extra ()": "extra is too much",
    "DROP TABLE empty_one": "empty_one is missing",
    "ALTER TABLE devices RENAME COLUMN told TO said": "devices has other columns",
    'ALTER TABLE "Weird Table" ALTER "order" TYPE bigint': "has other columns",
    "SELECT setval('tickets', -400)": "tickets is not where it was",
    "DROP INDEX by_name": "of kind relation i",
    "DROP FUNCTION twice": "of kind function",
    "DROP POLICY mine ON devices": "of kind policy",
    "SELECT lo_unlink(oid) FROM pg_largeobject_metadata": "large objects is missing",
}


async def test_the_proof_finds_what_is_not_as_the_manifest_says(estate: Estate) -> None:
    manifest = await estate.back_up()
    good, files = await estate.fresh("app_r5"), estate.beside("attachments-r5")
    await estate.engine.restore(estate.store, manifest, good, files)
    for harm, told in HARMS.items():
        harmed = Base(server=estate.server, database="harmed")
        async with connected(estate.server, "postgres") as session:
            await session.execute("DROP DATABASE IF EXISTS harmed WITH (FORCE)")
            await session.execute("CREATE DATABASE harmed TEMPLATE app_r5")
        async with connected(estate.server, "harmed") as session:
            await session.execute(harm)
        with pytest.raises(DamagedError, match=told):
            await estate.engine.prove(estate.store, manifest, harmed, files)


async def test_the_proof_finds_another_attachment(estate: Estate) -> None:
    manifest = await estate.back_up()
    base, files = await estate.fresh("app_r6"), estate.beside("attachments-r6")
    await estate.engine.restore(estate.store, manifest, base, files)
    await files.blobs.delete(files.container, "d/4.txt")
    with pytest.raises(DamagedError, match="1 attachments are missing"):
        await estate.engine.prove(estate.store, manifest, base, files)
    await files.blobs.create(files.container, "d/4.txt", b"five")
    with pytest.raises(DamagedError, match="1 attachments are not what was stored"):
        await estate.engine.prove(estate.store, manifest, base, files)


async def test_a_database_that_is_gone_is_no_moment_to_wait_for(estate: Estate) -> None:
    await estate.databases.drop_database(estate.server, estate.base.database)
    with pytest.raises(InvalidError, match="does not exist"):
        await estate.back_up()


async def test_programs_that_are_missing_are_named(estate: Estate) -> None:
    data = PostgresData(None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", "/nowhere")
        with pytest.raises(InvalidError, match="pg_dump cannot be started"):
            await data.dump(estate.base, lambda _: None)


async def test_sessions_are_told_per_database(estate: Estate) -> None:
    data = PostgresData(None)
    sessions = await data.sessions(estate.server, ADMIN_USER)
    assert sessions == {"postgres": 1}
    async with connected(
        estate.server, estate.base.database, user=APP_ROLE, password="app-secret"
    ):
        sessions = await data.sessions(estate.server, APP_ROLE)
    assert sessions == {estate.base.database: 1}


async def test_tables_are_locked_before_anything_is_read(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Truncate and refill beside an open snapshot: half a table would be in the backup."""
    tried: list[str] = []

    async def another_session(*_: object) -> None:
        async with connected(estate.server, estate.base.database) as session:
            await session.execute("SET lock_timeout = '50ms'")
            for statement in ("TRUNCATE readings_old", "ALTER TABLE devices ADD extra text"):
                with pytest.raises(asyncpg.LockNotAvailableError):
                    await session.execute(statement)
                tried.append(statement)

    monkeypatch.setattr(PostgresData, "_pg_dump", another_session)
    await PostgresData(None).dump(estate.base, lambda _: None)
    assert len(tried) == 2


async def test_a_table_that_changes_before_it_is_locked_begins_the_backup_anew(
    estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    harms = iter(("DROP TABLE empty_one", "TRUNCATE readings_old", "CREATE TABLE late ()"))
    listed = census.tables

    calls = 0

    async def counted(connection: Connection) -> list[census.Table]:
        nonlocal calls
        calls += 1
        found = await listed(connection)
        # the list outside of the transaction: somebody changes a table right after it
        if not connection.is_in_transaction():  # type: ignore[attr-defined]
            statement = next(harms, None)
            if statement is not None:
                async with connected(estate.server, estate.base.database) as session:
                    await session.execute(statement)
        return found

    monkeypatch.setattr(census, "tables", counted)
    contents = await PostgresData(None).contents(estate.base)
    rows = {table.name: table.rows for table in contents.tables}
    assert "public.empty_one" not in rows
    assert rows["public.readings_old"] == 0
    assert "public.late" in rows
    assert calls >= 7
