"""The stack from nothing to healthy, again on its own data, and what it takes in memory.

Beside it stands the plain baseline: one bare import of the application with all its SDKs, which
no start of the Functions host can beat.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from bench import kit
from bench.customers import Customers
from bench.kit import Figure
from bench.stack import running, thrown_away
from local.home import PROJECT
from local.stack import PARTS
from local.supervisor_state import status

if TYPE_CHECKING:
    from bench.stack import Stack

ROUNDS = 3
UP_GOAL_S = 10.0
IDLE_GOAL_MIB = 450.0
SPACE_GOAL_MIB = 120.0
SPACES = 3
_QUIET_S = 0.5
_QUIET_MIB = 0.5


def measure() -> list[Figure]:
    """Starts on fresh homes and on used ones; memory on a home of its own."""
    bare, cold, warm = [], [], []
    for _ in range(ROUNDS):
        bare.append(_import_s())
        with thrown_away() as stack:
            cold.append(stack.up())
            stack.down()
            warm.append(stack.up())
    with running() as stack:
        memory = asyncio.run(_memory(stack))
        stack.down()
        with_spaces = stack.up()
    return [
        _start("up, cold home", cold),
        _start("up, warm restart on its data", warm),
        Figure(f"up again with {SPACES + 1} spaces, all running", with_spaces, "s"),
        Figure(
            "a bare import of the application (baseline)",
            kit.median(bare),
            "s",
            note=kit.spread(bare, "s"),
        ),
        Figure(
            "up on a cold home, to the bare import",
            kit.median(cold) / kit.median(bare),
            "times",
        ),
        *memory,
    ]


def _start(name: str, took: list[float]) -> Figure:
    note = kit.spread(took, "s")
    return Figure(name, kit.median(took), "s", UP_GOAL_S, at_least=False, note=note)


def _import_s() -> float:
    began = time.monotonic()
    program = "import function_app, spaces.adapters.opening"
    subprocess.run([sys.executable, "-c", program], check=True, cwd=PROJECT)
    return time.monotonic() - began


async def _memory(stack: Stack) -> list[Figure]:
    """The idle stack part by part, and what each further standard space adds."""
    await _settled(stack)
    parts = {one.name: one.pss_mib for one in await status(stack.home)}
    idle = sum(stack.memory().values())
    grown: list[float] = []
    pieces: dict[str, list[float]] = {"database": [], "two instances": [], "the parts": []}
    async with Customers(stack.home) as customers:
        # The first one also warms the parts up: their clients stay open, whatever comes after.
        await customers.open_space("first", country="DE")
        for number in range(SPACES):
            await _settled(stack)
            before = stack.memory()
            await customers.open_space(f"further-{number}", country="DE")
            await _settled(stack)
            after = stack.memory()
            grown.append(sum(after.values()) - sum(before.values()))
            for name, size in _pieces(before, after).items():
                pieces[name].append(size)
    return [
        Figure("idle stack without spaces, PSS", idle, "MiB", IDLE_GOAL_MIB, at_least=False),
        *(Figure(f"… {part.name}", parts[part.name], "MiB") for part in PARTS),
        Figure(
            "one more standard space, PSS",
            kit.median(grown),
            "MiB",
            SPACE_GOAL_MIB,
            at_least=False,
            note=kit.spread(grown, "MiB"),
        ),
        *(Figure(f"… {name}", kit.median(sizes), "MiB") for name, sizes in pieces.items()),
    ]


def _pieces(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    grown = {name: size - before.get(name, 0) for name, size in after.items()}
    database = sum(size for name, size in grown.items() if name.startswith("postgres-"))
    instances = grown.get("space_process", 0)
    return {
        "database": database,
        "two instances": instances,
        "the parts": sum(grown.values()) - database - instances,
    }


async def _settled(stack: Stack) -> None:
    """Wait until the memory of the whole stack has stopped moving."""
    last = 0.0
    for _ in range(40):
        now = sum(stack.memory().values())
        if abs(now - last) < _QUIET_MIB:
            return
        last = now
        await asyncio.sleep(_QUIET_S)
