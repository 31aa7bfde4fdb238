"""The starter's side of the fork parent: started when first needed, again when it has died."""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from local.home import PROJECT
from local.processes import MARKER, NAME

if TYPE_CHECKING:
    from local.compute.parent import Order
    from local.home import Home

# All an instance inherits: what is in our environment is not its business.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH")
_ANSWER_S = 30.0
# glibc's allocator: few arenas, and memory of a passed load goes back to the kernel.
_GIVES_BACK = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": "131072",
    "MALLOC_MMAP_THRESHOLD_": "131072",
}


class NurseryError(Exception):
    """The fork parent does not work; its log says why."""


class Nursery:
    """One fork parent, for one event loop."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._process: asyncio.subprocess.Process | None = None
        self._one_at_a_time = asyncio.Lock()

    async def fork(self, order: Order) -> int:
        """A new instance's pid. It may not have begun to listen, and may fail to.

        A parent that has died is replaced once. That is safe: an instance that the dead one
        forked unseen holds the instance's lock, and the second ends at it.
        """
        line = msgspec.json.encode(order) + b"\n"
        async with self._one_at_a_time:
            for _ in range(2):
                process = await self._running()
                with suppress(OSError):
                    return await self._ask(process, line)
                await self._discard(process)
        raise NurseryError(f"their parent process ends at once; its log: {self._log}")

    async def _ask(self, process: asyncio.subprocess.Process, line: bytes) -> int:
        assert process.stdin is not None  # noqa: S101 — both are pipes
        assert process.stdout is not None  # noqa: S101
        process.stdin.write(line)
        await process.stdin.drain()
        async with asyncio.timeout(_ANSWER_S):  # TimeoutError is an OSError
            answer = await process.stdout.readline()
        if not answer:
            raise BrokenPipeError
        return int(answer)

    async def _discard(self, process: asyncio.subprocess.Process) -> None:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()

    async def close(self) -> None:
        """End the parent; the instances live on."""
        process, self._process = self._process, None
        if process and process.returncode is None:
            assert process.stdin is not None  # noqa: S101 — a pipe
            process.stdin.close()
            await process.wait()

    @property
    def pid(self) -> int | None:
        """The parent's pid while it lives."""
        alive = self._process is not None and self._process.returncode is None
        return self._process.pid if self._process and alive else None

    @property
    def _log(self) -> str:
        return str(self._home.path("logs", "space_parent.log"))

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is None or self._process.returncode is not None:
            passed = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
            own = {
                "KPAX_HOME": str(self._home.root),
                MARKER: str(self._home.root),
                NAME: "space_process",
                **_GIVES_BACK,
            }
            handle = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "local.compute.parent",
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=handle,
                    env=passed | own,
                    cwd=PROJECT,
                    start_new_session=True,
                )
            finally:
                os.close(handle)
        return self._process
