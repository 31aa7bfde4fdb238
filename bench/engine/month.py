"""A month of days on which 1 % of the rows changed, anywhere: what it stores, beside restic."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bench import kit
from bench.engine.rounds import restored, stored_bytes
from bench.engine.tools import Engine, Restic
from bench.kit import Figure

if TYPE_CHECKING:
    from bench.engine.rounds import Setting

_FIRST_DAY = datetime(2026, 6, 1, 2, tzinfo=UTC)


def measure(setting: Setting, days: int) -> list[Figure]:
    """The bytes of so many days after a first one, changed rows anywhere; the last is restored."""
    tools = setting.make_tools()
    engine = next(tool for tool in tools if isinstance(tool, Engine))
    restic = next((tool for tool in tools if isinstance(tool, Restic)), None)
    space = setting.space
    first: dict[str, int] = {}
    walls: list[float] = []
    try:
        space.reset()
        for tool in (engine, restic):
            if tool is not None:
                tool.prepare()
        for day in range(days + 1):
            if day:
                space.change(seed=1000 + day, is_recent=False)
            stamp = _FIRST_DAY + timedelta(days=day)
            taken = engine.back_up_on(stamp.isoformat(), space)
            walls.append(taken.wall_s)
            if restic is not None:
                restic.add_day(space, f"{stamp:%Y-%m-%d %H:%M:%S}")
            if not day:
                first = {tool.name: stored_bytes(tool.store) for tool in tools}
        ours = stored_bytes(engine.store)
        restored(setting, engine)
        found = [
            Figure("engine, stored with the first", ours / 2**20, "MiB"),
            Figure("… stored by the days alone", (ours - first["engine"]) / 2**20, "MiB"),
            Figure("… a day, median", kit.median(walls[1:]), "s", note=f"{days} days"),
        ]
        if restic is not None:
            theirs = stored_bytes(restic.store)
            alone = (theirs - first["restic"]) / 2**20
            found += [
                Figure("restic, stored with the first (baseline)", theirs / 2**20, "MiB"),
                Figure("… stored by the days alone", alone, "MiB"),
                Figure("engine, to restic", ours / theirs, "times", 0.5, at_least=False),
            ]
        return found
    finally:
        space.remove()
        for tool in tools:
            shutil.rmtree(tool.store.parent, ignore_errors=True)
