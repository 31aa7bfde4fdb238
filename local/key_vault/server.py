"""The vaults' server: one TLS port per registered vault, one plain port for health.

The port a request came in by says which vault it is for. The stack's bearer token may do
everything; a vault's reading token may GET secrets of that vault (403 for all else, other
vaults included), no or another token is answered with the challenge that the SDK waits for.
Nothing of a request or answer is ever logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
from typing import TYPE_CHECKING

from aiohttp import web

from local.key_vault.answers import VaultError, bad_parameter
from local.key_vault.ca import server_context
from local.key_vault.handlers import VAULT, Handlers
from local.key_vault.store import Store
from local.key_vault.vaults import Vaults, reader_token

if TYPE_CHECKING:
    from aiohttp.typedefs import Handler

    from local.home import Home
    from local.key_vault.vaults import Vault

log = logging.getLogger("local.key_vault")

_LOOK_AGAIN_S = 0.5
_CHALLENGE = (
    'Bearer authorization="https://login.microsoftonline.com/'
    '00000000-0000-0000-0000-000000000000", resource="https://vault.azure.net"'
)


class KeyVaultServer:
    """Listens for every registered vault, and follows the registrations while it runs."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._vaults = Vaults(home)
        self._store = Store(home.path("key_vault", "vaults.sqlite"))
        self._tls = server_context(home)
        self._served: dict[str, tuple[Vault, web.TCPSite]] = {}  # by id
        self._by_port: dict[int, Vault] = {}
        self._refreshing = asyncio.Lock()
        self._seen: tuple[int, int] | None = None
        app = web.Application(middlewares=[self._at_the_door])
        app.add_routes(Handlers(self._store).routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        local = web.Application()
        local.router.add_get("/healthz", self._healthz)
        local.router.add_post("/_local/refresh", self._refresh_now)
        self._local_runner = web.AppRunner(local, access_log=None, shutdown_timeout=1.0)
        self._follower: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listen; raises OSError when a port is taken."""
        await self._runner.setup()
        await self.refresh()
        await self._local_runner.setup()
        await web.TCPSite(self._local_runner, "127.0.0.1", self._home.port("key_vault")).start()
        self._follower = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Finish what runs, then close everything."""
        if self._follower:
            self._follower.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._follower
        await self._local_runner.cleanup()
        await self._runner.cleanup()
        self._store.close()

    async def refresh(self) -> None:
        """Make the listening ports and the content match the registrations.

        Raises:
            OSError: a vault's port is taken; the other vaults are served all the same.
        """
        async with self._refreshing:
            seen = self._file_version()
            known = {vault.id: vault for vault in self._vaults.known().values()}
            wanted = {key: vault for key, vault in known.items() if not vault.deleted}
            for gone in set(self._served) - set(wanted):
                vault, site = self._served.pop(gone)
                del self._by_port[vault.port]
                await site.stop()
            failed = None
            for vault in wanted.values():
                if vault.id not in self._served:
                    try:
                        await self._serve(vault)
                    except OSError as error:
                        failed = error
            self._store.keep_only(known)
            if failed:
                raise failed
            self._seen = seen

    async def _serve(self, vault: Vault) -> None:
        site = web.TCPSite(self._runner, "127.0.0.1", vault.port, ssl_context=self._tls)
        self._by_port[vault.port] = vault
        await site.start()
        self._served[vault.id] = (vault, site)

    async def _follow(self) -> None:
        said = ""
        while True:
            await asyncio.sleep(_LOOK_AGAIN_S)
            if self._file_version() != self._seen:
                try:
                    await self.refresh()
                except (
                    OSError
                ) as error:  # taken since it was chosen: tried again until it works
                    if str(error) != said:
                        said = str(error)
                        log.error("vault.not_served %s", said)  # noqa: TRY400 — the reason says it all

    def _file_version(self) -> tuple[int, int] | None:
        try:
            found = self._home.path("key_vault", "vaults.json").stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    @web.middleware
    async def _at_the_door(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            request[VAULT] = self._vault_of(request)
            self._check_token(request)
            if "api-version" not in request.query:
                raise bad_parameter("The api-version is missing.")
            return await handler(request)
        except VaultError as error:
            return error.response()
        except web.HTTPNotFound:
            offered = f"{request.method} {request.path} is not offered by the local vault."
            return VaultError(501, "NotImplemented", offered).response()
        except web.HTTPMethodNotAllowed as error:
            return VaultError(405, "MethodNotAllowed", error.reason).response()

    def _vault_of(self, request: web.Request) -> Vault:
        address = request.get_extra_info("sockname")
        vault = self._by_port.get(address[1]) if address else None
        if vault is None:  # removed while this connection was open
            raise VaultError(404, "VaultNotFound", "This vault does not exist any more.")
        return vault

    def _check_token(self, request: web.Request) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _unauthorized("Request is missing a Bearer token.")
        if hmac.compare_digest(token.encode(), self._home.secret("token").encode()):
            return
        holder = (
            token.split(".")[1] if token.startswith("reader.") and token.count(".") == 2 else ""
        )
        if not hmac.compare_digest(token.encode(), reader_token(self._home, holder).encode()):
            raise _unauthorized("The Bearer token is not known.")
        reads = request.method == "GET" and (request.path + "/").startswith("/secrets/")
        if holder != request[VAULT].name or not reads:
            raise VaultError(
                403,
                "Forbidden",
                f"Caller is not authorized to perform {request.method} on this resource: "
                f"it may read the secrets of the vault {holder}.",
            )

    async def _healthz(self, request: web.Request) -> web.Response:
        return web.json_response({"vaults": len(self._served)})

    async def _refresh_now(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {self._home.secret('token')}".encode()):
            return web.json_response({}, status=401)
        try:
            await self.refresh()
        except OSError as error:
            return web.json_response({"error": str(error)}, status=500)
        return web.json_response({"vaults": len(self._served)})


def _unauthorized(message: str) -> VaultError:
    error = VaultError(401, "Unauthorized", message)
    error.headers["WWW-Authenticate"] = _CHALLENGE
    return error
