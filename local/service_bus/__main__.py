"""The broker as a process: `python -m local.service_bus`, with KPAX_HOME set."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING

from local.errors import Code, StackError
from local.home import PROJECT, Home
from local.service_bus.admin import Admin
from local.service_bus.connection import KEY_NAME
from local.service_bus.front import Front
from local.service_bus.namespace import Namespace, read_declared
from local.service_bus.sas import Keyring, SharedKey
from local.service_bus.server import Connection, Server
from local.service_bus.store import MemoryStore, SqliteStore, Store
from local.service_bus.websocket import speaks
from local.serving import run_part

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

log = logging.getLogger("local.service_bus")


class Broker:
    """Store, queues and both listeners."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._listeners: list[asyncio.Server] = []
        self._store: Store | None = None
        self._server: Server | None = None
        self._tls: ssl.SSLContext | None = None

    async def start(self) -> None:
        """Load what was kept, then listen."""
        declared = read_declared(PROJECT / "infra" / "queues.json")
        store = self._store = _open_store(self._home)
        namespace = Namespace(store, clock=_now_ms, declared=declared)
        key = SharedKey(KEY_NAME, self._home.secret("service_bus_key"))
        keys = Keyring(key, namespace.access_rules)
        server = self._server = Server(namespace, keys, on_failure=_die)
        choose = speaks(lambda: Connection(server))
        await self._listen(lambda: Front(choose), "service_bus")
        admin = Admin(server, self._tls_context)
        await self._listen(lambda: Front(admin.speaks), "service_bus_admin")
        server.touch()  # arms the timer for what was kept

    def _tls_context(self) -> ssl.SSLContext:
        from local.key_vault.ca import server_context  # noqa: PLC0415 — see tls.py

        if self._tls is None:
            self._tls = server_context(self._home)
        return self._tls

    async def _listen(self, protocol: Callable[[], asyncio.Protocol], name: str) -> None:
        port = self._home.port(name)
        loop = asyncio.get_running_loop()
        try:
            self._listeners.append(await loop.create_server(protocol, "127.0.0.1", port))
        except OSError as error:
            raise StackError(
                f"127.0.0.1:{port} ({name}) cannot be had: {error.strerror}.",
                remedy=f"`ss -ltnp 'sport = :{port}'` names the holder.",
            ) from error

    async def stop(self) -> None:
        """Write what is left and let go, however far the start came."""
        for listener in self._listeners:
            listener.close()
        if self._server is not None:
            self._server.close()
        if self._store is not None:
            self._store.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _open_store(home: Home) -> Store:
    kind = os.environ.get("KPAX_BUS_STORE", "sqlite")
    mode = os.environ.get("KPAX_BUS_SYNC", "NORMAL").upper()
    if kind not in {"sqlite", "memory"} or mode not in {"OFF", "NORMAL", "FULL"}:
        raise StackError(
            f"KPAX_BUS_STORE={kind} with KPAX_BUS_SYNC={mode} is not known.",
            remedy="The store is sqlite or memory, the mode OFF, NORMAL or FULL.",
            code=Code.BAD_INPUT,
        )
    if kind == "memory":
        return MemoryStore()
    return SqliteStore(home.path("service_bus", "broker.sqlite"), synchronous=mode)


def _die(error: Exception) -> None:
    """A commit failed: memory is ahead of the file, so nobody may be told anything any more."""
    log.critical("store.failed: %s: %s", type(error).__name__, error)
    os._exit(1)


if __name__ == "__main__":
    run_part("service_bus", lambda: Broker(Home.open()))
