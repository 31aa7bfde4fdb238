"""Which vaults exist: a file that the running server follows, and the tokens that open them.

The Resource Manager adds and removes vaults here, without the server if need be; the server
listens on a new vault's port as soon as it is told, and within a second if nobody tells it.
A vault's content hangs on the id given at its registration, so that a vault made again under
an old name starts empty.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import uuid
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import aiohttp

from local.errors import StackError
from local.home import replace_text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from local.home import Home

_REFRESH_S = 10.0


@dataclass(frozen=True, slots=True)
class Vault:
    """One registered vault; `id` tells it from an earlier one of the same name."""

    name: str
    port: int
    id: str
    deleted: bool = False
    """Softly: it is not served, and its content is kept."""

    @property
    def uri(self) -> str:
        """The vault's address as clients take it."""
        return f"https://127.0.0.1:{self.port}/"


class Vaults:
    """The vaults of one home."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._file = home.path("key_vault", "vaults.json")

    async def ensure(self, name: str) -> Vault:
        """Register a vault unless it is; it answers on return if the server runs.

        Raises:
            StackError: the server cannot serve it.
        """
        return (await self.ensure_all([name]))[name]

    async def ensure_all(self, names: Iterable[str]) -> dict[str, Vault]:
        """The same for many at once: one write, one word to the server."""
        wanted = list(dict.fromkeys(names))
        found = await asyncio.to_thread(self._register, wanted)
        await self._tell_server()
        return {name: found[name] for name in wanted}

    async def remove(self, name: str) -> None:
        """Forget a vault with all it holds; an unknown name is no error."""
        await asyncio.to_thread(self._unregister, name)
        await self._tell_server()

    async def withdraw(self, name: str) -> None:
        """Serve a vault no more and keep what it holds; an unknown name is no error."""
        await asyncio.to_thread(self._mark, name, deleted=True)
        await self._tell_server()

    async def restore(self, name: str) -> Vault | None:
        """Serve a withdrawn vault again, with what it held; None when there is none."""
        await asyncio.to_thread(self._mark, name, deleted=False)
        await self._tell_server()
        return self.get(name)

    def get(self, name: str) -> Vault | None:
        """The vault of this name, or None."""
        return self.all().get(name)

    def all(self) -> dict[str, Vault]:
        """Every vault that is served, by its name."""
        return {name: vault for name, vault in self.known().items() if not vault.deleted}

    def known(self) -> dict[str, Vault]:
        """Every registered vault by its name, the withdrawn ones too."""
        try:
            rows = json.loads(self._file.read_bytes())
        except FileNotFoundError:
            return {}
        return {row["name"]: Vault(**row) for row in rows}

    def token(self, name: str) -> str:
        """A bearer token that reads the secrets of this one vault, as an identity would."""
        return reader_token(self._home, name)

    def _register(self, names: list[str]) -> dict[str, Vault]:
        with self._home.locked("key_vault_vaults"):
            known = self.known()
            new = [name for name in names if name not in known or known[name].deleted]
            for name in new:
                port = self._home.port(_port_name(name))
                known[name] = Vault(name=name, port=port, id=uuid.uuid4().hex)
            if new:
                self._write(known)
            return known

    def _unregister(self, name: str) -> None:
        with self._home.locked("key_vault_vaults"):
            known = self.known()
            if known.pop(name, None):
                self._write(known)
                self._home.forget_port(_port_name(name))

    def _mark(self, name: str, *, deleted: bool) -> None:
        with self._home.locked("key_vault_vaults"):
            known = self.known()
            if name in known:
                known[name] = replace(known[name], deleted=deleted)
                self._write(known)

    def _write(self, vaults: dict[str, Vault]) -> None:
        rows = [asdict(vault) for vault in vaults.values()]
        replace_text(self._file, json.dumps(rows, indent=2) + "\n")

    async def _tell_server(self) -> None:
        url = f"http://127.0.0.1:{self._home.port('key_vault')}/_local/refresh"
        headers = {"Authorization": f"Bearer {self._home.secret('token')}"}
        timeout = aiohttp.ClientTimeout(total=_REFRESH_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            try:
                async with session.post(url, headers=headers) as answer:
                    if answer.status != 200:
                        raise StackError(f"A vault is not served: {await answer.text()}")
            except aiohttp.ClientConnectorError:
                return  # no server runs: it reads the file when it starts


def reader_token(home: Home, name: str) -> str:
    """The reading token of a vault: computed, so that nobody has to keep it."""
    key = home.secret("key_vault_identities").encode()
    seal = hmac.new(key, name.encode(), hashlib.sha256).hexdigest()
    return f"reader.{name}.{seal}"


def _port_name(vault: str) -> str:
    return f"vault_{vault}"
