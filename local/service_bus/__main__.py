"""The broker as a process: `python -m local.service_bus`, with KPAX_HOME set."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time

from local.errors import Code, StackError
from local.home import PROJECT, Home
from local.service_bus.admin import Admin
from local.service_bus.connection import KEY_NAME
from local.service_bus.namespace import Namespace, read_declared
from local.service_bus.sas import SharedKey
from local.service_bus.server import Connection, Server
from local.service_bus.store import MemoryStore, SqliteStore, Store

log = logging.getLogger("kpax.service_bus")


def _open_store(home: Home) -> Store:
    kind = os.environ.get("KPAX_BUS_STORE", "sqlite")
    if kind == "memory":
        return MemoryStore()
    if kind != "sqlite":
        raise StackError(
            f"KPAX_BUS_STORE={kind} is not known.",
            remedy="Use sqlite or memory.",
            code=Code.BAD_INPUT,
        )
    mode = os.environ.get("KPAX_BUS_SYNC", "NORMAL").upper()
    return SqliteStore(home.path("service_bus", "broker.sqlite"), synchronous=mode)


async def _serve(home: Home) -> None:
    loop = asyncio.get_running_loop()
    store = _open_store(home)
    declared = read_declared(PROJECT / "infra" / "queues.json")
    namespace = Namespace(store, clock=lambda: time.time_ns() // 1_000_000, declared=declared)
    key = SharedKey(KEY_NAME, home.secret("service_bus_key"))
    server = Server(namespace, key)
    stopped = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stopped.set)
    amqp = await _listen(lambda: Connection(server), home.port("service_bus"))
    admin = Admin(server, key)
    http = await _listen(admin.protocol, home.port("service_bus_admin"))
    server.touch()  # arms the timer for what was kept
    log.info("service_bus.ready", extra={"port": home.port("service_bus")})
    waiting = asyncio.create_task(stopped.wait())
    await asyncio.wait((waiting, server.failed), return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    for listener in (amqp, http):
        listener.close()
    server.close()
    if server.failed.done():
        server.failed.result()
    store.close()


async def _listen(protocol, port: int) -> asyncio.Server:  # noqa: ANN001 — asyncio's factory
    try:
        return await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", port)
    except OSError as error:
        raise StackError(
            f"The broker cannot listen on 127.0.0.1:{port}: {error.strerror}.",
            remedy=f"`ss -ltnp 'sport = :{port}'` names the holder.",
        ) from error


def main() -> int:
    """Serve until SIGTERM; the exit code says how it ended."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(_serve(Home.open()))
    except StackError as error:
        sys.stderr.write(f"{error}\n")
        return error.code
    return 0


if __name__ == "__main__":
    sys.exit(main())
