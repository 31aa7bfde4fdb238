"""The parts of the local cloud that resources are made of, as the providers see them.

Small protocols: the real parts fit them, and so do the doubles of tests.
"""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from local.home import Home
from local.resource_manager.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.compute import Instance, ScaleSet
    from local.front_door.routes import Route


class DatabaseServer(Protocol):
    """A running PostgreSQL server."""

    @property
    def name(self) -> str: ...  # noqa: D102 — a field
    @property
    def host(self) -> str: ...  # noqa: D102 — a field
    @property
    def port(self) -> int: ...  # noqa: D102 — a field
    @property
    def pid(self) -> int | None: ...  # noqa: D102 — a field
    @property
    def running(self) -> bool: ...  # noqa: D102 — a field


class Databases(Protocol):
    """PostgreSQL servers: `local.postgres.PostgresServers`."""

    async def ensure(
        self, name: str, *, admin_user: str, admin_password: str
    ) -> DatabaseServer:
        """The server, made and started where needed."""
        ...

    async def stop(self, name: str) -> None:
        """Stop it, keep its data."""
        ...

    async def delete(self, name: str) -> None:
        """Stop it and delete its data."""
        ...

    def get(self, name: str) -> DatabaseServer | None:
        """The server, running or not."""
        ...


class StorageAccount(Protocol):
    """One account of Azurite."""

    @property
    def key(self) -> str: ...  # noqa: D102 — a field
    @property
    def second_key(self) -> str: ...  # noqa: D102 — a field
    @property
    def blob_endpoint(self) -> str: ...  # noqa: D102 — a field
    @property
    def table_endpoint(self) -> str: ...  # noqa: D102 — a field


class Accounts(Protocol):
    """Storage accounts: `local.azurite.AzuriteAccounts`."""

    async def ensure(self, name: str) -> StorageAccount:
        """The account, made where needed; it answers."""
        ...

    async def remove(self, name: str) -> None:
        """Delete it with all it holds."""
        ...

    def get(self, name: str) -> StorageAccount | None:
        """The account."""
        ...

    def renew(self, name: str, number: int) -> StorageAccount:
        """One of its two keys made anew."""
        ...


class Containers(Protocol):
    """Containers of an account: `local.resource_manager.providers.blob.BlobContainers`."""

    async def ensure(self, account: str, name: str) -> None:
        """The container, made where needed."""
        ...

    async def remove(self, account: str, name: str) -> None:
        """Delete it with its blobs."""
        ...


class VaultServer(Protocol):
    """One vault."""

    @property
    def uri(self) -> str: ...  # noqa: D102 — a field


class VaultServers(Protocol):
    """Vaults: `local.key_vault.vaults.Vaults`."""

    async def ensure(self, name: str) -> VaultServer:
        """The vault, made where needed; it answers."""
        ...

    async def withdraw(self, name: str) -> None:
        """Serve it no more, keep what it holds."""
        ...

    async def restore(self, name: str) -> VaultServer | None:
        """Serve it again, if it was withdrawn."""
        ...

    async def remove(self, name: str) -> None:
        """Delete it with all it holds."""
        ...

    def get(self, name: str) -> VaultServer | None:
        """The vault."""
        ...

    def token(self, name: str) -> str:
        """A bearer token that reads this vault's secrets."""
        ...


class VaultData(Protocol):
    """What lies in vaults: `local.resource_manager.providers.vault_data.VaultClient`."""

    async def set_secret(self, vault: str, name: str, value: str) -> dict[str, Any]:
        """A new version of a secret; its uri."""
        ...

    async def get_secret(self, vault: str, name: str, version: str | None) -> str | None:
        """The value of a secret; None when there is none."""
        ...

    async def ensure_key(self, vault: str, name: str, kind: dict[str, Any]) -> dict[str, Any]:
        """A key, made where there is none; its uri."""
        ...


class ComputeSets(Protocol):
    """Space processes: `local.compute.Compute`."""

    async def ensure(self, scale_set: ScaleSet, /) -> list[Instance]:
        """The set's instances as declared."""
        ...

    async def delete(self, name: str) -> None:
        """End them all and forget the set."""
        ...

    async def restart(self, name: str) -> None:
        """End every instance of a set and start it again."""
        ...

    def instances(self, name: str) -> list[Instance]:
        """The set's instances."""
        ...

    async def recover(self) -> None:
        """Find living instances again, start missing ones."""
        ...

    async def close(self) -> None:
        """End what helps to start instances; the instances go on."""
        ...


class RouteTable(Protocol):
    """The front door's table: `local.front_door.routes.Routes`."""

    def replace(self, routes: Sequence[Route]) -> None:
        """The whole table anew."""
        ...


@dataclass(slots=True, kw_only=True)
class Cloud:
    """Everything a provider may touch."""

    home: Home
    store: Store
    databases: Databases
    accounts: Accounts
    containers: Containers
    vaults: VaultServers
    vault_data: VaultData
    compute: ComputeSets
    routes: RouteTable
    identities: Identities = field(init=False)

    def __post_init__(self) -> None:
        self.identities = Identities(self.home)

    @property
    def subscription(self) -> str:
        """The one subscription."""
        return self.home.value("subscription_id", lambda: str(uuid.uuid4()))

    @property
    def tenant(self) -> str:
        """The one tenant."""
        return self.home.value("tenant_id", lambda: str(uuid.uuid4()))


class Identities:
    """Who may call: bearer tokens and the principals behind them.

    `control-plane` is the product's identity. `operator` is a person with all rights in the
    subscription, who is not excluded from deny settings.
    """

    NAMES = ("control-plane", "operator")

    def __init__(self, home: Home) -> None:
        self._home = home

    def token(self, name: str) -> str:
        """The bearer token of a caller."""
        return self._home.secret("token" if name == "control-plane" else f"token_{name}")

    @staticmethod
    def stranger(token: str) -> str:
        """The object id behind any other bearer token: a person with all rights but no exclusion.

        Tools of other people bring credentials of their own, and nobody here could check them. A
        token that looks like one of Entra ID names its `oid`; any other stands for itself.
        """
        try:
            body = token.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
            return str(claims["oid"])
        except (IndexError, KeyError, TypeError, ValueError):
            return str(uuid.uuid5(uuid.NAMESPACE_OID, token))

    def principal(self, name: str) -> str:
        """The object id of a caller."""
        return self._home.value(f"principal_{name}", lambda: str(uuid.uuid4()))
