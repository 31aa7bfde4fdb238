"""PostgreSQL servers in memory: names and owners, no data."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spaces.errors import DeniedError, InvalidError, NotFoundError, TransientError
from tests.fakes.faults import Faults

if TYPE_CHECKING:
    from spaces.ports import Server

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(slots=True)
class FakeServer:
    user: str
    password: str
    roles: dict[str, str] = field(default_factory=dict[str, str])
    owners: dict[str, str] = field(default_factory=dict[str, str])


class FakeDatabases:
    """Servers by address.

    One is made at first contact and keeps that administrator, until `closed` says that only known
    servers answer.
    """

    def __init__(self) -> None:
        self.faults = Faults()
        self.servers: dict[str, FakeServer] = {}
        self.closed = False

    async def ensure_role(self, server: Server, role: str, password: str) -> None:
        self.faults.before("ensure_role")
        _check(role)
        self._server(server).roles[role] = password
        self.faults.after("ensure_role")

    async def ensure_database(self, server: Server, database: str, *, owner: str) -> None:
        self.faults.before("ensure_database")
        _check(database)
        _check(owner)
        here = self._server(server)
        if owner not in here.roles:
            raise NotFoundError(f'role "{owner}" does not exist')
        here.owners[database] = owner
        self.faults.after("ensure_database")

    async def drop_database(self, server: Server, database: str) -> None:
        self.faults.before("drop_database")
        _check(database)
        self._server(server).owners.pop(database, None)
        self.faults.after("drop_database")

    async def databases(self, server: Server) -> list[str]:
        self.faults.before("databases")
        return sorted([*self._server(server).owners, "postgres"])

    def _server(self, server: Server) -> FakeServer:
        here = self.servers.get(server.address)
        if here is None:
            if self.closed:
                raise TransientError("nobody answers", where=f"server {server.address}")
            here = self.servers[server.address] = FakeServer(server.user, server.password)
        if (here.user, here.password) != (server.user, server.password):
            raise DeniedError(
                "password authentication failed", where=f"server {server.address}"
            )
        return here


def _check(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidError(f"{name[:80]!r} is no name for a database or a role")
