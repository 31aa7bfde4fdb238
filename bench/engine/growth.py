"""Memory with ten times the space: what a run needs must not grow with what it backs up."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from bench.engine.rounds import restored, sample
from bench.engine.tools import Engine
from bench.kit import Figure

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.engine.rounds import Sample, Setting

_PHASES = ("first", "unchanged", "uniform", "restore", "scrub")
_LIMITS = {"first": 160.0}
_LIMIT = 130.0


def measure(make: Callable[[float], Setting], large: float) -> list[Figure]:
    """Peaks of each phase in a space and in one ten times as large."""
    small = large / 10
    before, after = _peaks(make(small)), _peaks(make(large))
    found: list[Figure] = []
    for phase in _PHASES:
        growth = after[phase].peak_mib / before[phase].peak_mib
        found += [
            Figure(
                f"{phase}, greatest memory with ten times the space",
                after[phase].peak_mib,
                "MiB",
                _LIMITS.get(phase, _LIMIT),
                at_least=False,
                note=f"{after[phase].wall_s:.1f} s; size {large:g}",
            ),
            Figure(
                f"… to that of size {small:g}",
                growth,
                "times",
                1.1,
                at_least=False,
                note=f"{before[phase].peak_mib:.0f} MiB",
            ),
        ]
    return found


def _peaks(setting: Setting) -> dict[str, Sample]:
    engine = next(tool for tool in setting.make_tools() if isinstance(tool, Engine))
    space = setting.space
    found: dict[str, Sample] = {}
    try:
        space.reset()
        engine.prepare()
        found["first"] = sample(engine.back_up(space))
        found["unchanged"] = sample(engine.back_up(space))
        space.change(seed=17, is_recent=False)
        found["uniform"] = sample(engine.back_up(space))
        found["restore"] = restored(setting, engine)
        found["scrub"] = sample(engine.scrub())
        setting.say(", ".join(f"{name} {one.peak_mib:.0f} MiB" for name, one in found.items()))
        return found
    finally:
        space.remove()
        space.forget()
        shutil.rmtree(engine.store.parent, ignore_errors=True)
