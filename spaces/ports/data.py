"""What stands inside a space, and how it is asked: database, vault, keys, address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """How to reach a PostgreSQL server as its administrator. `address` is `host` or `host:port`."""

    address: str
    user: str
    password: str = field(repr=False)


class Databases(Protocol):
    """Databases and roles on a space's PostgreSQL server. Every method may be repeated."""

    async def ensure_role(self, server: Server, role: str, password: str) -> None:
        """A login role with this password and no other right."""
        ...

    async def ensure_database(self, server: Server, database: str, *, owner: str) -> None:
        """A database owned by `owner`, closed to the public."""
        ...

    async def drop_database(self, server: Server, database: str) -> None:
        """Drop it with its connections; a missing one counts as done."""
        ...

    async def databases(self, server: Server) -> list[str]:
        """Names of the databases there, templates left out."""
        ...

    async def ensure_login(
        self, server: Server, role: str, password: str, *, acts_as: str
    ) -> None:
        """A login role with this password, whose sessions act as the role `acts_as`.

        What it makes belongs to that role, as if that one had logged in. The same role twice: its
        sessions are its own. Raises `NotFoundError` where `acts_as` is missing.
        """
        ...

    async def retire_login(self, server: Server, role: str) -> None:
        """Nobody logs in as this role any more, and who did is put out; its rights stay."""
        ...

    async def accepts(self, server: Server, database: str, role: str, password: str) -> bool:
        """Whether somebody can log in to this database as that, tried for real.

        Raises `TransientError` where the server does not answer.
        """
        ...


class Secrets(Protocol):
    """Key Vaults, by vault URI."""

    async def get(self, vault: str, name: str) -> str | None:
        """The newest version's value, or None where there is no such secret."""
        ...

    async def create(self, vault: str, name: str, value: str) -> str:
        """Create-only: an existing secret stays. Answers the value in force."""
        ...

    async def put_version(self, vault: str, name: str, value: str) -> None:
        """A new version that is the current one from now on."""
        ...

    async def disable_old(self, vault: str, name: str) -> None:
        """Every version but the newest can be read no more; none where there is no such secret."""
        ...

    async def delete(self, vault: str, name: str) -> bool:
        """Delete a secret and purge it; a missing one counts as done.

        False where the vault's protection keeps it, deleted, until its retention ends.
        """
        ...


class Keys(Protocol):
    """The regional key that wraps data keys; its private half never leaves the vault."""

    async def wrap(self, vault: str, key: str, data: bytes) -> tuple[str, bytes]:
        """Wrap `data`; answers the key's versioned id, and the wrapped bytes."""
        ...

    async def unwrap(self, key_id: str, wrapped: bytes) -> bytes:
        """Unwrap by the versioned key id. Raises `WrongKeyError`, `NotFoundError`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer of a space: status, headers in lower case, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Edge(Protocol):
    """The public URL of a space, asked as its customer would ask it."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        content_type: str | None = None,
    ) -> Answer:
        """One request, five seconds at most. Raises `UnreachableError` where nobody answers."""
        ...
