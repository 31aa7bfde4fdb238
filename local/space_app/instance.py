"""One instance of a space as a process: listen, serve until SIGTERM."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import TYPE_CHECKING

from aiohttp import web

from local.space_app.app import make_app

if TYPE_CHECKING:
    from collections.abc import Callable

    from local.space_app.settings import InstanceConfig

_STACK_BYTES = 512 * 1024  # of a helper thread: counted by a limit on data, whether used or not
_DRAIN_S = 2.0


def serve(
    config: InstanceConfig,
    listening: Callable[[], None],
    make: Callable[[InstanceConfig], web.Application] = make_app,
) -> None:
    """Serve until SIGTERM; `listening` is called once, when the port is open.

    Raises:
        OSError: the port is taken.
    """
    threading.stack_size(_STACK_BYTES)
    asyncio.run(_serve(config, listening, make))


async def _serve(
    config: InstanceConfig,
    listening: Callable[[], None],
    make: Callable[[InstanceConfig], web.Application],
) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, ended.set)
    runner = web.AppRunner(make(config), access_log=None, shutdown_timeout=_DRAIN_S)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", config.port).start()
        listening()
        await ended.wait()
    finally:
        await runner.cleanup()
