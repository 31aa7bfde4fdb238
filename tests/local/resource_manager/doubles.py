"""Parts of the cloud that only remember: for tests of what the Resource Manager itself does.

`python doubles.py HOME` serves a Resource Manager made of them until SIGTERM.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from local.compute import Instance, ScaleSet
from local.front_door.routes import Route
from local.home import Home
from local.resource_manager.cloud import Cloud
from local.resource_manager.server import Server
from local.resource_manager.service import Service
from local.resource_manager.store import Store
from local.serving import run_part

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class FakeServer:
    name: str
    port: int
    host: str = "127.0.0.1"
    pid: int | None = 1000
    running: bool = True


@dataclass
class FakeDatabases:
    servers: dict[str, FakeServer] = field(default_factory=dict)
    passwords: dict[str, str] = field(default_factory=dict)
    ensured: int = 0

    async def ensure(self, name: str, *, admin_user: str, admin_password: str) -> FakeServer:
        del admin_user
        self.ensured += 1
        self.passwords[name] = admin_password
        server = self.servers.setdefault(name, FakeServer(name, 20_000 + len(self.servers)))
        server.running, server.pid = True, 1000
        return server

    async def stop(self, name: str) -> None:
        if name in self.servers:
            self.servers[name].running = False
            self.servers[name].pid = None

    async def delete(self, name: str) -> None:
        self.servers.pop(name, None)

    def get(self, name: str) -> FakeServer | None:
        return self.servers.get(name)


class FakeConnection:
    """A database server's answers: it knows every setting, and takes every value."""

    @classmethod
    async def open(cls, **_: object) -> FakeConnection:
        return cls()

    async def fetchrow(self, query: str, name: str) -> dict[str, Any]:
        del query
        told = {"name": name, "context": "user", "vartype": "integer", "boot_val": "0"}
        return {**told, "setting": "0", "min_val": "0", "max_val": "2147483647"}

    async def execute(self, statement: str) -> None:
        """Nothing is kept."""

    async def close(self) -> None:
        """Nothing is open."""


@dataclass
class FakeAccount:
    name: str
    key: str = "a2V5"
    second_key: str = "a2V5Mg=="

    @property
    def blob_endpoint(self) -> str:
        return f"http://127.0.0.1:1/{self.name}"

    @property
    def table_endpoint(self) -> str:
        return f"http://127.0.0.1:2/{self.name}"


@dataclass
class FakeAccounts:
    accounts: dict[str, FakeAccount] = field(default_factory=dict)

    async def ensure(self, name: str) -> FakeAccount:
        return self.accounts.setdefault(name, FakeAccount(name))

    async def remove(self, name: str) -> None:
        self.accounts.pop(name, None)

    def get(self, name: str) -> FakeAccount | None:
        return self.accounts.get(name)

    def renew(self, name: str, number: int) -> FakeAccount:
        account = self.accounts[name]
        if number == 1:
            account.key += "bmV3"
        else:
            account.second_key += "bmV3"
        return account


@dataclass
class FakeContainers:
    containers: set[tuple[str, str]] = field(default_factory=set)

    async def ensure(self, account: str, name: str) -> None:
        self.containers.add((account, name))

    async def remove(self, account: str, name: str) -> None:
        self.containers.discard((account, name))


@dataclass
class FakeVault:
    name: str

    @property
    def uri(self) -> str:
        return f"https://127.0.0.1/{self.name}/"


@dataclass
class FakeVaults:
    vaults: dict[str, FakeVault] = field(default_factory=dict)
    withdrawn: dict[str, FakeVault] = field(default_factory=dict)

    async def ensure(self, name: str) -> FakeVault:
        return self.vaults.setdefault(name, FakeVault(name))

    async def withdraw(self, name: str) -> None:
        if name in self.vaults:
            self.withdrawn[name] = self.vaults.pop(name)

    async def restore(self, name: str) -> FakeVault | None:
        if name in self.withdrawn:
            self.vaults[name] = self.withdrawn.pop(name)
        return self.vaults.get(name)

    async def remove(self, name: str) -> None:
        self.vaults.pop(name, None)
        self.withdrawn.pop(name, None)

    def get(self, name: str) -> FakeVault | None:
        return self.vaults.get(name)

    def token(self, name: str) -> str:
        return f"reads-{name}"


@dataclass
class FakeVaultData:
    secrets: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    keys: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    async def set_secret(self, vault: str, name: str, value: str) -> dict[str, Any]:
        versions = self.secrets.setdefault((vault, name), [])
        versions.append(value)
        return {"id": f"https://127.0.0.1/{vault}/secrets/{name}/{len(versions)}"}

    async def get_secret(self, vault: str, name: str, version: str | None) -> str | None:
        versions = self.secrets.get((vault, name), [])
        if version is None:
            return versions[-1] if versions else None
        number = int(version)
        return versions[number - 1] if 0 < number <= len(versions) else None

    async def ensure_key(self, vault: str, name: str, kind: dict[str, Any]) -> dict[str, Any]:
        self.keys.setdefault((vault, name), kind)
        return {"kid": f"https://127.0.0.1/{vault}/keys/{name}/1"}


@dataclass
class FakeCompute:
    sets: dict[str, ScaleSet] = field(default_factory=dict)
    history: list[ScaleSet] = field(default_factory=list)
    recovered: int = 0
    restarted: list[str] = field(default_factory=list)

    async def ensure(self, scale_set: ScaleSet) -> list[Instance]:
        self.sets[scale_set.name] = scale_set
        self.history.append(scale_set)
        return self.instances(scale_set.name)

    async def restart(self, name: str) -> None:
        self.restarted.append(name)

    async def delete(self, name: str) -> None:
        self.sets.pop(name, None)

    def instances(self, name: str) -> list[Instance]:
        found = self.sets.get(name)
        if found is None:
            return []
        return [
            Instance(
                id=one,
                scale_set=name,
                zone=found.zone(one),
                address=f"127.0.0.1:{30_000 + number}",
                pid=2000 + number if found.running else None,
                healthy=found.running,
                memory_limit_mib=found.memory_mib,
                cpu_limit=found.cpus,
                mechanism="none",
            )
            for number, one in enumerate(found.ids())
        ]

    async def recover(self) -> None:
        self.recovered += 1

    async def close(self) -> None:
        return


@dataclass
class FakeRoutes:
    table: tuple[Route, ...] = ()

    def replace(self, routes: Sequence[Route]) -> None:
        self.table = tuple(routes)


def a_cloud(home: Home) -> Cloud:
    """A cloud of doubles on a real store."""
    return Cloud(
        home=home,
        store=Store(home.path("resource_manager", "state.sqlite")),
        databases=FakeDatabases(),
        accounts=FakeAccounts(),
        containers=FakeContainers(),
        vaults=FakeVaults(),
        vault_data=FakeVaultData(),
        compute=FakeCompute(),
        routes=FakeRoutes(),
    )


if __name__ == "__main__":
    _home = Home.open(sys.argv[1])
    run_part("resource_manager", lambda: Server(_home, Service(a_cloud(_home))))
