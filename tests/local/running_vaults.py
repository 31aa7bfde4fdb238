"""A vault server as a process of its own, and the credential that opens it."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from azure.core.credentials import AccessToken

from local import processes
from local.home import Home
from local.key_vault.ca import ca_file
from local.key_vault.vaults import Vaults


class StaticCredential:
    """One bearer token, as the local stack's settings give it."""

    def __init__(self, token: str) -> None:
        self._token = token

    def get_token(self, *scopes: str, **options: object) -> AccessToken:
        assert scopes == ("https://vault.azure.net/.default",)
        return AccessToken(self._token, int(time.time()) + 3600)


class AsyncStaticCredential(StaticCredential):
    async def get_token(self, *scopes: str, **options: object) -> AccessToken:  # type: ignore[override]
        return super().get_token(*scopes, **options)

    async def close(self) -> None:
        pass

    async def __aenter__(self) -> AsyncStaticCredential:
        return self

    async def __aexit__(self, *exception: object) -> None:
        pass


@dataclass
class RunningVaults:
    """The server process of one home."""

    home: Home
    log: Path
    process: processes.Identity | None = None

    @property
    def vaults(self) -> Vaults:
        return Vaults(self.home)

    @property
    def options(self) -> dict[str, object]:
        """What a client of the SDK is given beside address and credential."""
        return {
            "verify_challenge_resource": False,
            "connection_verify": str(ca_file(self.home)),
            "retry_total": 0,
        }

    def credential(self, token: str | None = None) -> StaticCredential:
        return StaticCredential(token or self.home.secret("token"))

    def async_credential(self, token: str | None = None) -> AsyncStaticCredential:
        return AsyncStaticCredential(token or self.home.secret("token"))

    async def start(self) -> None:
        self.process = processes.spawn(
            [sys.executable, "-m", "local.key_vault"],
            home=self.home,
            name="key_vault",
            log=self.log,
            env={"KPAX_HOME": str(self.home.root)},
            die_with_parent=True,
        )
        url = f"http://127.0.0.1:{self.home.port('key_vault')}/healthz"
        async with aiohttp.ClientSession() as session:
            while processes.alive(self.process):
                try:
                    async with session.get(url) as answer:
                        assert answer.status == 200
                        return
                except aiohttp.ClientConnectorError:
                    await asyncio.sleep(0.01)
        raise AssertionError(self.log.read_text())

    def kill(self) -> None:
        assert self.process
        processes.end(self.process, sig=processes.signal.SIGKILL)
