"""PostgreSQL servers in memory: names and owners, no data."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from spaces.errors import DeniedError, InvalidError, NotFoundError, TransientError
from tests.fakes.faults import Faults

if TYPE_CHECKING:
    from collections.abc import Callable

    from spaces.ports import Server

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(slots=True)
class FakeServer:
    user: str
    password: str
    roles: dict[str, str] = field(default_factory=dict[str, str])
    owners: dict[str, str] = field(default_factory=dict[str, str])
    acts_as: dict[str, str] = field(default_factory=dict[str, str])


class FakeDatabases:
    """Servers by address.

    One is made at first contact and keeps that administrator, until `closed` says that only known
    servers answer; `runs` tells by its address whether a server runs.
    """

    def __init__(self) -> None:
        self.faults = Faults()
        self.servers: dict[str, FakeServer] = {}
        self.closed = False
        self.runs: Callable[[str], bool] = lambda _: True

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

    async def ensure_login(
        self, server: Server, role: str, password: str, *, acts_as: str
    ) -> None:
        self.faults.before("ensure_login")
        _check(role)
        _check(acts_as)
        here = self._server(server)
        here.roles[role] = password
        if role != acts_as:
            if acts_as not in here.roles:
                raise NotFoundError(f'role "{acts_as}" does not exist')
            here.acts_as[role] = acts_as
        self.faults.after("ensure_login")

    async def retire_login(self, server: Server, role: str) -> None:
        self.faults.before("retire_login")
        _check(role)
        here = self._server(server)
        if role in here.roles:
            here.roles[role] = ""  # it stays, and nothing opens it
        self.faults.after("retire_login")

    async def accepts(self, server: Server, database: str, role: str, password: str) -> bool:
        self.faults.before("accepts")
        here = self._answering(server.address)
        if role == here.user:
            return password == here.password
        owner = here.owners.get(database)
        may = owner in {role, here.acts_as.get(role)}
        return bool(password) and here.roles.get(role) == password and may

    async def databases(self, server: Server) -> list[str]:
        self.faults.before("databases")
        return sorted([*self._server(server).owners, "postgres"])

    def _answering(self, address: str) -> FakeServer:
        here = self.servers.get(address)
        if here is None or not self.runs(address):
            raise TransientError("nobody answers", where=f"server {address}")
        return here

    def _server(self, server: Server) -> FakeServer:
        if not self.runs(server.address):
            raise TransientError("nobody answers", where=f"server {server.address}")
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
