"""The same steps by DBOS: a workflow for each operation, on a PostgreSQL of its own.

Each step does one call of the same length. What DBOS makes durable goes to the database through
SQLAlchemy, where statements and commits are counted. It is measured with the database on this
machine, and once more with the same wait before each round trip to it as our ports have, since no
database of a cloud is on the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.kit import Figure
from local.home import Home
from local.postgres import PostgresServers

if TYPE_CHECKING:
    from collections.abc import Iterator

_ADMIN, _PASSWORD = "bench", "bench-only-here"
# With a wait before each round trip, so many are enough to see the rate.
_SHARE = 5


@dataclass(slots=True)
class Wire:
    """Counts what goes to the database, and lets it wait."""

    statements: int = 0
    commits: int = 0
    wait_s: float = 0.0

    def statement(self, *_: object) -> None:
        """Before each statement."""
        self.statements += 1
        time.sleep(self.wait_s)

    def commit(self, *_: object) -> None:
        """Before each commit."""
        self.commits += 1
        time.sleep(self.wait_s)


def figures(
    operations: int, steps: int, *, io_s: float, at_once: int, ours: float
) -> list[Figure]:
    """What DBOS needs for so many operations of so many steps; `ours` is our own rate."""
    if importlib.util.find_spec("dbos") is None:
        return [
            Figure("DBOS: not installed (requirements-bench.txt), so not compared", 0, "1/s")
        ]
    with _server() as url:
        near, wire, processor = _played(url, operations, steps, io_s, at_once, wait_s=0)
        far, _, _ = _played(url, operations // _SHARE, steps, io_s, at_once, wait_s=io_s)
    done = operations * steps
    return [
        Figure(
            "DBOS, its database on this machine: steps a second",
            done / near,
            "1/s",
            note=f"{operations} workflows of {steps} steps, {at_once} at once, in {near:.0f} s",
        ),
        Figure("… durable round trips of a step", (wire.statements + wire.commits) / done, "",
               note=f"statements {wire.statements / done:.1f}, commits {wire.commits / done:.1f};"
               " the workflow's own included"),
        Figure("… processor time of a step", 1_000 * processor / done, "ms",
               note="this process alone, without the database's"),
        Figure("… time of a step beyond its call", 1_000 * (near * at_once / done - io_s), "ms"),
        Figure(
            "DBOS, each round trip as far as ours: steps a second",
            (operations // _SHARE) * steps / far,
            "1/s",
            note=f"{operations // _SHARE} workflows, {at_once} at once, in {far:.0f} s",
        ),
        Figure("… ours with steps of one call, to it",
               ours / ((operations // _SHARE) * steps / far), "times"),
    ]  # fmt: skip


def _played(
    url: str, operations: int, steps: int, io_s: float, at_once: int, *, wait_s: float
) -> tuple[float, Wire, float]:
    """Seconds, what went to the database, and seconds of processor."""
    import sqlalchemy as sa  # noqa: PLC0415 — comes with dbos
    from dbos import DBOS, DBOSConfig  # noqa: PLC0415 — measured only where it is installed
    from sqlalchemy.pool import QueuePool  # noqa: PLC0415

    wire = Wire()
    engine = sa.create_engine(url, poolclass=QueuePool, pool_size=at_once + 4)
    config: DBOSConfig = {"name": "bench", "system_database_engine": engine,
                          "system_database_url": url, "log_level": "ERROR"}  # fmt: skip
    DBOS(config=config)

    @DBOS.step()
    async def call() -> None:
        await asyncio.sleep(io_s)

    @DBOS.workflow()
    async def operation() -> str:
        for _ in range(steps):
            await call()
        return "active"

    async def play() -> float:
        slots = asyncio.Semaphore(at_once)

        async def one() -> Any:  # noqa: ANN401 — the workflow's answer
            async with slots:
                return await operation()

        await operation()  # links are open
        sa.event.listen(engine, "before_cursor_execute", wire.statement)
        sa.event.listen(engine, "commit", wire.commit)
        wire.wait_s = wait_s
        began = time.monotonic()
        ended = await asyncio.gather(*(one() for _ in range(operations)))
        took = time.monotonic() - began
        if set(ended) != {"active"}:
            raise RuntimeError("a workflow did not end well")
        return took

    DBOS.launch()
    processor = time.process_time()
    try:
        took = asyncio.run(play())
        return took, wire, time.process_time() - processor
    finally:
        wire.wait_s = 0
        DBOS.destroy(destroy_registry=True)
        engine.dispose()
        logging.getLogger("dbos").handlers.clear()


@contextlib.contextmanager
def _server() -> Iterator[str]:
    """The address of a PostgreSQL server that is gone afterwards."""
    root = Path(tempfile.mkdtemp(prefix="kpax-bench-"))
    servers = PostgresServers(Home.open(root))
    try:
        made = asyncio.run(servers.ensure("dbos", admin_user=_ADMIN, admin_password=_PASSWORD))
        yield f"postgresql+psycopg://{_ADMIN}:{_PASSWORD}@127.0.0.1:{made.port}/postgres"
    finally:
        asyncio.run(PostgresServers(Home.open(root)).delete("dbos"))
        shutil.rmtree(root, ignore_errors=True)
