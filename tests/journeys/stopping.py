"""A stop switch for the running app: kills its process at one numbered line of one step.

The app loads it through the setting KPAX_PORTS_WRAPPER; the setting KPAX_STOP_FILE names a file
with lines `step point`. The first line whose place is reached is removed, then the process dies
as by kill -9, so that the next line waits for the next process. Points: `before-effect`,
`after-effect`, `after-commit`, `after-send` (the lines of control-plane.md 3.5).
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spaces.ports import Ports

POINTS = ("before-effect", "after-effect", "after-commit", "after-send")


class Switch:
    """Knows at which step each space stands, from the rows that pass by."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.step: dict[str, str] = {}
        self.committed: dict[str, str] = {}

    def reached(self, step: str | None, point: str) -> None:
        """Die here, if the file says so."""
        lines = self._file.read_text().splitlines() if self._file.exists() else []
        if lines and step is not None and lines[0] == f"{step} {point}":
            rest = self._file.with_suffix(".rest")
            rest.write_text("".join(f"{line}\n" for line in lines[1:]))
            rest.replace(self._file)
            os._exit(137)


class StoppingTables:
    def __init__(self, tables: Any, switch: Switch) -> None:
        self._tables, self._switch = tables, switch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)

    async def query(self, table: str, **where: Any) -> Any:
        rows = await self._tables.query(table, **where)
        for row in rows:
            if table == "spaces" and row.key == "state":
                step = _step(row.values["doc"])
                self._switch.step[row.partition] = step
                self._switch.reached(step, "before-effect")
        return rows

    async def commit(self, table: str, partition: str, writes: Any) -> None:
        moves = table == "spaces" and any(
            write.key == "state" and hasattr(write, "etag") for write in writes
        )
        step = self._switch.step.get(partition) if moves else None
        self._switch.reached(step, "after-effect")
        await self._tables.commit(table, partition, writes)
        self._switch.reached(step, "after-commit")
        if moves and step:
            self._switch.committed[partition] = step


class StoppingBus:
    def __init__(self, bus: Any, switch: Switch) -> None:
        self._bus, self._switch = bus, switch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    async def send(self, messages: Any) -> None:
        await self._bus.send(messages)
        for message in messages:
            told = json.loads(message.body)
            space_id = told.get("space_id") or told.get("subject")
            self._switch.reached(self._switch.committed.pop(space_id, None), "after-send")


def wrap(ports: Ports) -> Ports:
    """The ports with the switch in front of tables and bus."""
    switch = Switch(Path(os.environ["KPAX_STOP_FILE"]))
    return replace(
        ports,
        tables=StoppingTables(ports.tables, switch),
        bus=StoppingBus(ports.bus, switch),
    )


def _step(doc: Any) -> str:
    op = json.loads(doc).get("op")
    if not op:
        return ""
    return op["steps"][op.get("at", 0)]
