"""Rounds in which the tools take turns at each phase, so that what else runs disturbs all alike.

Phases of a round: first, unchanged, 1 % recent, 1 % uniform, restore of the last state, full scrub.
A number counts when the restored state was compared; one that differs ends the measurement.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bench.engine import compare
from bench.engine.server import Server
from bench.engine.space import Space
from bench.engine.tools import Engine, Pipes, Place, Tool

if TYPE_CHECKING:
    from bench.engine.watch import Taken

BACKUPS = ("first", "unchanged", "recent", "uniform")
PHASES = (*BACKUPS, "restore", "scrub")
_TARGET = "restored"


@dataclass(frozen=True, slots=True)
class Sample:
    """One tool in one phase of one round."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    stored_bytes: int = 0
    storage_calls: int = 0


@dataclass(slots=True)
class Samples:
    """All of a run, by phase and tool, in the order of the rounds."""

    taken: dict[tuple[str, str], list[Sample]] = field(
        default_factory=lambda: defaultdict(list[Sample])
    )

    def add(self, phase: str, tool: str, sample: Sample) -> None:
        """One more."""
        self.taken[phase, tool].append(sample)

    def of(self, phase: str, tool: str) -> list[Sample]:
        """Those of one tool in one phase; none where it was not measured."""
        return self.taken.get((phase, tool), [])


@dataclass(frozen=True, slots=True)
class Setting:
    """Where the rounds are run; `make_tools` gives tools that have stored nothing yet."""

    server: Server
    space: Space
    root: Path
    make_tools: Callable[[], list[Tool]]
    say: Callable[[str], None]


def measure(setting: Setting, count: int) -> Samples:
    """So many rounds."""
    samples = Samples()
    for number in range(count):
        _round(setting, number, samples)
    return samples


def _round(setting: Setting, number: int, samples: Samples) -> None:
    space = setting.space
    tools = setting.make_tools()
    turn = number % len(tools)
    tools = tools[turn:] + tools[:turn]
    try:
        space.reset()
        for tool in tools:
            tool.prepare()
        for phase in BACKUPS:
            if phase in {"recent", "uniform"}:
                space.change(seed=10 + len(phase), is_recent=phase == "recent")
            for tool in tools:
                samples.add(phase, tool.name, _backed_up(tool, space))
            _tell(setting, number, phase, tools, samples)
        for tool in tools:
            samples.add("restore", tool.name, restored(setting, tool))
        _tell(setting, number, "restore", tools, samples)
        for tool in tools:
            taken = tool.scrub()
            if taken is not None:
                samples.add("scrub", tool.name, sample(taken))
        _tell(setting, number, "scrub", tools, samples)
    finally:
        space.remove()
        for tool in tools:
            shutil.rmtree(tool.store.parent if tool.name != "pipes" else tool.store)


def _backed_up(tool: Tool, space: Space) -> Sample:
    before = stored_bytes(tool.store)
    taken = tool.back_up(space)
    calls = 0
    if isinstance(tool, Engine):
        said = tool.said(taken)
        calls = said["storage_calls"]
        if said["state"] != "complete":
            raise RuntimeError(f"the backup is {said['state']}")
    return sample(taken, stored=stored_bytes(tool.store) - before, calls=calls)


def restored(setting: Setting, tool: Tool) -> Sample:
    """Restore, compare, forget; raises `RuntimeError` where the state is another."""
    server, space = setting.server, setting.space
    if isinstance(tool, Pipes):
        tool.dump(space)
    place = Place(server.dsn(_TARGET), setting.root / _TARGET)
    server.create(_TARGET)
    try:
        taken = tool.restore(place)
        compare.require_same_rows(server, space.database, _TARGET, who=tool.name)
        compare.require_same_files(space.folder, place.folder, who=tool.name)
    finally:
        server.drop(_TARGET)
        shutil.rmtree(place.folder, ignore_errors=True)
    return sample(taken)


def sample(taken: Taken, *, stored: int = 0, calls: int = 0) -> Sample:
    """What a command took, as a sample."""
    return Sample(taken.wall_s, taken.cpu_s, taken.peak_mib, stored, calls)


def stored_bytes(folder: Path) -> int:
    """Of all files below, by their length."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _tell(
    setting: Setting, number: int, phase: str, tools: list[Tool], samples: Samples
) -> None:
    parts: list[str] = []
    for tool in sorted(tools, key=lambda tool: tool.name):
        if measured := samples.of(phase, tool.name):
            one = measured[-1]
            stored = f" {one.stored_bytes / 2**20:.3f} MiB" if phase in BACKUPS else ""
            parts.append(f"{tool.name} {one.wall_s:.2f} s {one.peak_mib:.0f} MiB RSS{stored}")
    setting.say(f"round {number + 1} {phase}: " + ", ".join(parts))
