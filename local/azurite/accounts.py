"""Storage accounts in the one Azurite: made and removed while it runs.

Azurite knows the accounts of one file (`preload.js` reloads it when it was replaced), so that an
account works at its first request. Only the standard library is used: several parts import this.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from local.azurite import requests
from local.errors import StackError
from local.home import replace_text

if TYPE_CHECKING:
    from local.home import Home

CONTROL_ACCOUNT = "kpaxcontrol"

_NAME = re.compile(r"[a-z0-9]{3,24}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """One storage account: its endpoints are path-style, `http://127.0.0.1:PORT/<name>`."""

    name: str
    key: str = field(repr=False)
    second_key: str = field(repr=False)
    blob_endpoint: str
    table_endpoint: str

    @property
    def connection_string(self) -> str:
        """What any storage SDK takes."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.name};AccountKey={self.key};"
            f"BlobEndpoint={self.blob_endpoint};TableEndpoint={self.table_endpoint};"
        )


class AzuriteAccounts:
    """The accounts of one home. Any process may hold one of these; the file is the truth."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._file = home.path("azurite", "accounts.json")

    def register(self, name: str) -> Account:
        """The account, made when missing; good even before Azurite runs."""
        if not _NAME.fullmatch(name):
            raise StackError(
                f"{name!r} is no storage account name.",
                remedy="3 to 24 small letters and digits.",
            )
        with self._home.locked("azurite"):
            keys = self._keys()
            if name not in keys:
                keys[name] = [_new_key(), _new_key()]
                self._write(keys)
            return self._account(name, keys[name])

    def renew(self, name: str, number: int) -> Account:
        """Make key 1 or 2 of an account anew: Azurite takes the old one no more.

        Raises:
            KeyError: there is no such account.
        """
        with self._home.locked("azurite"):
            keys = self._keys()
            keys[name][number - 1] = _new_key()
            self._write(keys)
            return self._account(name, keys[name])

    async def ensure(self, name: str, *, timeout_s: float = 30.0) -> Account:
        """The account, made when missing; returns when blob and table service answer for it.

        Raises:
            StackError: Azurite does not answer within `timeout_s`.
        """
        account = await asyncio.to_thread(self.register, name)
        deadline = time.monotonic() + timeout_s
        while not await asyncio.to_thread(requests.answers, account):
            if time.monotonic() > deadline:
                raise StackError(
                    f"Azurite does not answer for account {name} at {account.blob_endpoint} "
                    f"and {account.table_endpoint}.",
                    remedy="`kpax up` starts it.",
                )
            await asyncio.sleep(0.02)
        return account

    async def remove(self, name: str) -> None:
        """Delete the account with its containers and tables; an unknown one is no error."""
        account = self.get(name)
        if account is None:
            return
        await asyncio.to_thread(requests.empty, account)
        with self._home.locked("azurite"):
            keys = self._keys()
            keys.pop(name, None)
            self._write(keys)

    def get(self, name: str) -> Account | None:
        """The account, or None where there is none."""
        keys = self._keys().get(name)
        return self._account(name, keys) if keys else None

    def _account(self, name: str, keys: list[str]) -> Account:
        return Account(
            name=name,
            key=keys[0],
            second_key=keys[1],
            blob_endpoint=f"http://127.0.0.1:{self._home.port('azurite_blob')}/{name}",
            table_endpoint=f"http://127.0.0.1:{self._home.port('azurite_table')}/{name}",
        )

    def _keys(self) -> dict[str, list[str]]:
        try:
            told: dict[str, str | list[str]] = json.loads(self._file.read_bytes())
        except FileNotFoundError:
            return {}
        # Homes of earlier versions have one key each; Azurite takes it as both.
        return {
            name: [keys, keys] if isinstance(keys, str) else keys for name, keys in told.items()
        }

    def _write(self, keys: dict[str, list[str]]) -> None:
        replace_text(self._file, json.dumps(keys, indent=1))
        # What Azurite reads comes second: an account that answers is always on record.
        text = ";".join(":".join((name, *pair)) for name, pair in keys.items())
        replace_text(self._home.path("azurite", "accounts.env"), text)


def _new_key() -> str:
    return base64.b64encode(secrets.token_bytes(64)).decode()
