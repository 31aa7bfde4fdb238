"""How a part of the stack runs as a process: start, say that it serves, end on SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import TYPE_CHECKING, Protocol

from local.errors import StackError

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("local")


class Part(Protocol):
    """Something that serves between `start` and `stop`."""

    async def start(self) -> None:
        """Return when it serves; OSError or StackError when it cannot."""
        ...

    async def stop(self) -> None:
        """Let go of everything, also after a `start` that failed half way."""
        ...


def log_to_stderr(name: str) -> None:
    """Facts as lines on stderr, where the supervisor keeps them."""
    logging.basicConfig(
        level=logging.INFO, format=f"%(asctime)s {name} %(levelname)s %(name)s %(message)s"
    )


def run_part(name: str, make: Callable[[], Part]) -> None:
    """Serve until SIGTERM or SIGINT; exit 1 with one line when it cannot start."""
    log_to_stderr(name)
    try:
        asyncio.run(_serve(name, make))
    except (OSError, StackError) as error:
        sys.stderr.write(f"{name} cannot start: {error}\n")
        sys.exit(1)


async def _serve(name: str, make: Callable[[], Part]) -> None:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, ended.set)
    part = make()
    try:
        await part.start()
        log.info("%s.serving", name)
        await ended.wait()
    finally:
        await part.stop()
