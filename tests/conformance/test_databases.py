"""Databases and roles of a server: every call may be repeated, and the public stays outside."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import asyncpg
import pytest

from spaces.adapters.databases import PostgresDatabases
from spaces.errors import DeniedError, InvalidError, NotFoundError, TransientError
from spaces.ports import Databases, Server
from tests.fakes import FakeDatabases

if TYPE_CHECKING:
    from tests.conformance.parts import Parts

ADMIN = "kpax_admin"
PASSWORD = 'it\'s a "secret" \\ of $1'
PLAIN_ADMIN = "azure_admin"


def _real(parts: Parts) -> Server:
    server = parts.postgres("conformance", user=ADMIN, password=PASSWORD)
    return Server(address=f"{server.host}:{server.port}", user=ADMIN, password=PASSWORD)


def _plain(parts: Parts) -> Server:
    """An administrator as Azure gives one: makes databases and roles, stands above nothing."""
    real = _real(parts)

    async def make() -> None:
        connection = await _connect(real, ADMIN, PASSWORD, "postgres")
        try:
            if not await connection.fetchval(
                "SELECT 1 FROM pg_roles WHERE rolname = $1", PLAIN_ADMIN
            ):
                await connection.execute(
                    f"CREATE ROLE {PLAIN_ADMIN} LOGIN CREATEDB CREATEROLE PASSWORD 'plain'"
                )
        finally:
            await connection.close()

    asyncio.run(make())
    return Server(address=real.address, user=PLAIN_ADMIN, password="plain")


async def _connect(
    server: Server, user: str, password: str, database: str
) -> asyncpg.Connection:
    host, _, port = server.address.partition(":")
    return await asyncpg.connect(
        host=host, port=int(port), user=user, password=password, database=database
    )


@pytest.fixture(
    params=[
        "fake",
        pytest.param("superuser", marks=pytest.mark.stack),
        pytest.param("plain", marks=pytest.mark.stack),
    ]
)
def server(request: pytest.FixtureRequest) -> Server:
    match request.param:
        case "superuser":
            return _real(request.getfixturevalue("parts"))
        case "plain":
            return _plain(request.getfixturevalue("parts"))
        case _:
            return Server(address="pg.example:5432", user=ADMIN, password=PASSWORD)


@pytest.fixture
def databases(server: Server) -> Databases:
    return FakeDatabases() if server.address.startswith("pg.example") else PostgresDatabases()


async def test_a_database_is_made_once_however_often_it_is_asked_for(
    databases: Databases, server: Server, unique: str
) -> None:
    for _ in range(2):
        await databases.ensure_role(server, unique, "secret")
        await databases.ensure_database(server, f"{unique}_app", owner=unique)
    assert f"{unique}_app" in await databases.databases(server)
    assert "template0" not in await databases.databases(server)


async def test_dropping_may_be_repeated(
    databases: Databases, server: Server, unique: str
) -> None:
    await databases.drop_database(server, unique)
    await databases.ensure_role(server, unique, "secret")
    await databases.ensure_database(server, unique, owner=unique)
    await databases.drop_database(server, unique)
    await databases.drop_database(server, unique)
    assert unique not in await databases.databases(server)
    await databases.ensure_database(server, unique, owner=unique)
    assert unique in await databases.databases(server)


@pytest.mark.parametrize(
    "name", ['x"; DROP DATABASE postgres; --', "App", "1a", "a-b", "a" * 64, ""]
)
async def test_a_name_that_needs_quoting_is_refused_before_anything_is_sent(
    databases: Databases, server: Server, unique: str, name: str
) -> None:
    with pytest.raises(InvalidError):
        await databases.ensure_role(server, name, "secret")
    with pytest.raises(InvalidError):
        await databases.ensure_database(server, name, owner="app")
    with pytest.raises(InvalidError):
        await databases.ensure_database(server, unique, owner=name)
    with pytest.raises(InvalidError):
        await databases.drop_database(server, name)


async def test_a_wrong_password_is_denied(databases: Databases, server: Server) -> None:
    await databases.databases(server)
    wrong = Server(address=server.address, user=server.user, password="wrong")
    with pytest.raises(DeniedError):
        await databases.databases(wrong)


async def test_an_owner_that_does_not_exist_is_named(
    databases: Databases, server: Server, unique: str
) -> None:
    with pytest.raises(NotFoundError, match=unique):
        await databases.ensure_database(server, f"{unique}_app", owner=unique)


async def test_two_logins_in_turn_open_one_database(
    databases: Databases, server: Server, unique: str
) -> None:
    other = f"{unique}_b"
    await databases.ensure_role(server, unique, "first")
    await databases.ensure_database(server, unique, owner=unique)
    assert await databases.accepts(server, unique, unique, "first")
    assert not await databases.accepts(server, unique, other, "second")
    for _ in range(2):
        await databases.ensure_login(server, other, "second", acts_as=unique)
    assert await databases.accepts(server, unique, other, "second")
    assert await databases.accepts(server, unique, unique, "first")
    for _ in range(2):
        await databases.retire_login(server, unique)
    assert not await databases.accepts(server, unique, unique, "first")
    assert await databases.accepts(server, unique, other, "second")
    await databases.ensure_login(server, unique, "third", acts_as=unique)
    assert await databases.accepts(server, unique, unique, "third")
    assert not await databases.accepts(server, unique, unique, "first")


async def test_a_login_for_an_owner_that_does_not_exist_is_refused(
    databases: Databases, server: Server, unique: str
) -> None:
    await databases.retire_login(server, unique)  # nobody: counts as done
    with pytest.raises(NotFoundError, match=unique):
        await databases.ensure_login(server, f"{unique}_b", "x", acts_as=unique)


@pytest.fixture(params=["superuser", "plain"])
def real(request: pytest.FixtureRequest, parts: Parts) -> Server:
    return _real(parts) if request.param == "superuser" else _plain(parts)


@pytest.mark.stack
async def test_the_role_owns_its_database_and_nothing_else(real: Server, unique: str) -> None:
    databases = PostgresDatabases()
    for role in (unique, f"{unique}_b"):
        await databases.ensure_role(real, role, f"'{role}' \\ \"$$")
        await databases.ensure_database(real, role, owner=role)
    own = await _connect(real, unique, f"'{unique}' \\ \"$$", unique)
    await own.execute("CREATE TABLE reading (id int); INSERT INTO reading VALUES (1)")
    assert await own.fetchval("SELECT count(*) FROM reading") == 1
    rights = await own.fetchrow(
        "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls FROM pg_roles"
        " WHERE rolname = current_user"
    )
    assert rights is not None
    assert not any(rights.values())
    await own.close()
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await _connect(real, unique, f"'{unique}' \\ \"$$", f"{unique}_b")


@pytest.mark.stack
async def test_a_new_password_is_the_one_in_force(real: Server, unique: str) -> None:
    databases = PostgresDatabases()
    await databases.ensure_role(real, unique, "old")
    await databases.ensure_database(real, unique, owner=unique)
    await databases.ensure_role(real, unique, "new")
    await (await _connect(real, unique, "new", unique)).close()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await _connect(real, unique, "old", unique)


@pytest.mark.stack
async def test_what_a_second_login_makes_belongs_to_the_owner(
    real: Server, unique: str
) -> None:
    databases, other = PostgresDatabases(), f"{unique}_b"
    await databases.ensure_role(real, unique, "first")
    await databases.ensure_database(real, unique, owner=unique)
    own = await _connect(real, unique, "first", unique)
    await own.execute("CREATE TABLE a (id int); INSERT INTO a VALUES (1)")
    await databases.ensure_login(real, other, "second", acts_as=unique)
    second = await _connect(real, other, "second", unique)
    await second.execute("ALTER TABLE a ADD COLUMN b int; CREATE TABLE c (id int)")
    owners = await second.fetch(
        "SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'"
    )
    assert [row["tableowner"] for row in owners] == [unique]
    await databases.retire_login(real, unique)
    while await second.fetchval(  # noqa: ASYNC110 — the server ends them in its own time
        "SELECT count(*) FROM pg_stat_activity WHERE usename = $1", unique
    ):
        await asyncio.sleep(0.01)
    own.terminate()
    assert await second.fetchval("SELECT count(*) FROM a") == 1
    await second.close()


@pytest.mark.stack
async def test_a_database_is_dropped_under_its_connections(real: Server, unique: str) -> None:
    databases = PostgresDatabases()
    await databases.ensure_role(real, unique, "secret")
    await databases.ensure_database(real, unique, owner=unique)
    open_still = await _connect(real, unique, "secret", unique)
    await databases.drop_database(real, unique)
    assert unique not in await databases.databases(real)
    open_still.terminate()


@pytest.mark.stack
async def test_two_that_make_the_same_at_once_both_succeed(real: Server, unique: str) -> None:
    databases = PostgresDatabases()
    await asyncio.gather(*(databases.ensure_role(real, unique, "secret") for _ in range(4)))
    await asyncio.gather(
        *(databases.ensure_database(real, unique, owner=unique) for _ in range(3)),
        *(databases.ensure_database(real, f"{unique}_{n}", owner=unique) for n in range(2)),
    )
    await (await _connect(real, unique, "secret", unique)).close()


@pytest.mark.stack
async def test_a_database_of_another_owner_is_handed_over(real: Server, unique: str) -> None:
    databases = PostgresDatabases()
    for role in (unique, f"{unique}_b"):
        await databases.ensure_role(real, role, "secret")
        await databases.ensure_database(real, f"{unique}_app", owner=role)
    connection = await _connect(real, f"{unique}_b", "secret", f"{unique}_app")
    assert (
        await connection.fetchval(
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()"
        )
        == f"{unique}_b"
    )
    await connection.close()


async def test_a_server_that_does_not_answer_is_a_passing_trouble(unused_port: int) -> None:
    nobody = Server(address=f"127.0.0.1:{unused_port}", user=ADMIN, password="x")
    with pytest.raises(TransientError):
        await PostgresDatabases().databases(nobody)
    fake = FakeDatabases()
    fake.closed = True
    with pytest.raises(TransientError):
        await fake.databases(nobody)
