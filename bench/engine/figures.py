"""From samples to figures: medians, ratios of medians within the run, goals of the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench import kit
from bench.engine.rounds import BACKUPS, PHASES, Sample, Samples
from bench.kit import Figure
from local.home import PROJECT

if TYPE_CHECKING:
    from collections.abc import Callable

PUBLISHED = PROJECT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- engine: begin -->\n", "<!-- engine: end -->"

NAMES = {
    "first": "first backup",
    "unchanged": "unchanged day",
    "recent": "1 % recent rows",
    "uniform": "1 % uniform rows",
    "restore": "restore of all",
    "scrub": "full scrub",
}
# How many times faster than the rival at least.
FASTER = {
    ("first", "restic"): 1.5,
    ("first", "borg"): 1.7,
    ("unchanged", "restic"): 5.0,
    ("unchanged", "borg"): 5.0,
    ("recent", "restic"): 2.5,
    ("recent", "borg"): 2.5,
    ("uniform", "restic"): 1.6,
    ("uniform", "borg"): 1.6,
    ("restore", "restic"): 1.4,
    ("restore", "borg"): 1.5,
    ("scrub", "restic"): 3.0,
    ("scrub", "borg"): 3.0,
}
# How many times fewer bytes at least.
SMALLER = {"first": 1 / 1.02, "recent": 6.0, "uniform": 7.0}
PEAK_MIB = {"first": 160.0}
PEAK_ELSE_MIB = 130.0
OTHERS = ("restic", "borg", "pipes")


def of_rounds(samples: Samples, *, size: float) -> list[Figure]:
    """Every phase of every tool, the goals beside."""
    found: list[Figure] = []
    for phase in PHASES:
        found += _engine(samples, phase, size=size)
        for other in OTHERS:
            found += _beside(samples, phase, other)
    return found


def _engine(samples: Samples, phase: str, *, size: float) -> list[Figure]:
    ours = samples.of(phase, "engine")
    name = NAMES[phase]
    walls = [one.wall_s for one in ours]
    note = f"{kit.spread(walls, 's')}; space of size {kit.number(size)}"
    found = [
        Figure(f"{name}: engine", kit.median(walls), "s", note=note),
        Figure(f"… {phase}, processor", _median(ours, lambda one: one.cpu_s), "s"),
        Figure(
            f"… {phase}, greatest memory",
            max(one.peak_mib for one in ours),
            "MiB",
            PEAK_MIB.get(phase, PEAK_ELSE_MIB),
            at_least=False,
            note="resident, the command and all below it; the greatest of the rounds",
        ),
    ]
    if phase not in BACKUPS:
        return found
    stored = _median(ours, lambda one: one.stored_bytes)
    calls = _median(ours, lambda one: one.storage_calls)
    if phase == "unchanged":
        found.append(Figure(f"… {phase}, stored", stored, "bytes", 4096, at_least=False))
        found.append(Figure(f"… {phase}, storage calls", calls, "", 8, at_least=False))
    else:
        found.append(Figure(f"… {phase}, stored", stored / 2**20, "MiB"))
        found.append(Figure(f"… {phase}, storage calls", calls, ""))
    return found


def _beside(samples: Samples, phase: str, other: str) -> list[Figure]:
    theirs, ours = samples.of(phase, other), samples.of(phase, "engine")
    if not theirs:
        return []
    name = NAMES[phase]
    walls = [one.wall_s for one in theirs]
    note = (
        f"{kit.spread(walls, 's')}; processor {_median(theirs, lambda one: one.cpu_s):.1f} s,"
        f" memory {max(one.peak_mib for one in theirs):.0f} MiB"
    )
    stored = _median(theirs, lambda one: one.stored_bytes)
    if phase in BACKUPS and other != "pipes":
        note += f", stored {stored / 2**20:.2f} MiB"
    found = [Figure(f"{name}: {other} (baseline)", kit.median(walls), "s", note=note)]
    times = _median(theirs, lambda one: one.wall_s) / _median(ours, lambda one: one.wall_s)
    goal = FASTER.get((phase, other))
    if other == "pipes":
        # 1.25 times their time for a first backup; no slower than they are in a restore.
        goal = {"first": 1 / 1.25, "restore": 1.0}.get(phase)
    found.append(Figure(f"… {phase}, engine faster than {other}", times, "times", goal))
    if phase in SMALLER and other != "pipes":
        ours_stored = _median(ours, lambda one: one.stored_bytes)
        found.append(
            Figure(
                f"… {phase}, engine smaller than {other}",
                stored / ours_stored,
                "times",
                SMALLER[phase],
            )
        )
    return found


def _median(samples: list[Sample], value: Callable[[Sample], float]) -> float:
    return kit.median([value(one) for one in samples])


def publish(text: str) -> None:
    """Put the tables between their marks of the published page."""
    page = PUBLISHED.read_text(encoding="utf-8")
    head, _, rest = page.partition(BEGIN)
    _, found, tail = rest.partition(END)
    if not found:
        raise RuntimeError(f"{PUBLISHED} has no {BEGIN.strip()}")
    PUBLISHED.write_text(f"{head}{BEGIN}{text}{END}{tail}", encoding="utf-8")
