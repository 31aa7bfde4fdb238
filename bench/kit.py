"""What every measurement shares: a figure, the machine it was taken on, and how both are shown."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured value; `at_least` says which way its goal is good.

    A figure without a goal is a baseline, a ratio, or something worth knowing. `note` says what
    the value was taken from.
    """

    name: str
    value: float
    unit: str
    goal: float | None = None
    at_least: bool = True
    note: str = ""

    @property
    def held(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.at_least else self.value <= self.goal


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One benchmark of a run: its figures, or why it has none; how long, under which load.

    The load is the kernel's mean over a minute, before and after: what else ran shows before.
    """

    name: str
    took_s: float
    load_before: float
    load_after: float
    figures: Sequence[Figure] = ()
    failure: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The shape of `--json`."""
        items = [asdict(figure) | {"held": figure.held} for figure in self.figures]
        return asdict(self) | {"figures": items}


def machine() -> dict[str, str]:
    """What the figures were taken on."""
    cpu = re.search(r"model name\s*:\s*(.+)", _text("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s*(\d+)", _text("/proc/meminfo"))
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "processor": f"{len(os.sched_getaffinity(0))} cores, {cpu[1] if cpu else 'unknown'}",
        "memory": f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "unknown",
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "python": platform.python_version(),
    }


def load() -> float:
    """How many processes wanted a core, in the mean over the last minute."""
    return os.getloadavg()[0]


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return statistics.median(values)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that `share` of them stay at or below, one that was really measured."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def spread(values: Sequence[float], unit: str) -> str:
    """How a note tells several measurements: how many, and between which limits."""
    return f"{len(values)} times, {number(min(values))} to {number(max(values))} {unit}"


def number(value: float) -> str:
    """Three digits that matter, thousands with commas."""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    text = f"{value:,.{digits}f}"
    return text.removesuffix(".00").removesuffix(".0")


def verdict(figure: Figure) -> str:
    """The goal beside a figure, and whether it was reached."""
    if figure.goal is None:
        return ""
    way = "at least" if figure.at_least else "at most"
    return f"{way} {number(figure.goal)}{'' if figure.held else ', MISSED'}"


def rows(figures: Sequence[Figure]) -> list[str]:
    """Lines for a terminal."""
    wide = max((len(figure.name) for figure in figures), default=0)
    lines = [
        f"  {one.name:<{wide}}  {number(one.value):>9} {one.unit:<6} {verdict(one):<22} {one.note}"
        for one in figures
    ]
    return [line.rstrip() for line in lines]


def markdown(results: Sequence[Result], where: dict[str, str]) -> str:
    """The published text of a run: the machine, then a table for each benchmark."""
    lines = ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in where.items())]
    for result in results:
        lines += section(result)
    return "\n".join(lines) + "\n"


def section(result: Result, taken: str = "") -> list[str]:
    """The table of one benchmark under its heading; `taken` is when, where that is not the run's."""
    told = f"load {result.load_before:.1f} before, {result.load_after:.1f} after"
    when = f"{taken}; " if taken else ""
    lines = ["", f"### {result.name}", "", f"{when}{result.took_s:.0f} s; {told}.", ""]
    if result.failure:
        return [*lines, f"Not measured: {result.failure}"]
    lines += ["| what | measured | goal | from |", "|---|---:|---|---|"]
    return lines + [
        f"| {one.name} | {number(one.value)} {one.unit} | {verdict(one)} | {one.note} |"
        for one in result.figures
    ]


def replaced(text: str, result: Result, where: dict[str, str]) -> str:
    """The published text with this benchmark's table in the place of its older one, or at the end."""
    parts = re.split(r"(?m)^(?=### )", text)
    made = "\n".join(section(result, where["date"])[1:]) + "\n"
    heading = f"### {result.name}\n"
    at = next((n for n, one in enumerate(parts) if one.startswith(heading)), None)
    if at is None:
        return text.rstrip("\n") + "\n\n" + made
    last = at + 1 == len(parts)
    parts[at] = made if last else made + "\n"
    return "".join(parts)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
