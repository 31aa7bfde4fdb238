"""What a change of the rules changes: every country and sector, before and after.

The golden table is the same list as a file (`tests/geo_router/golden/decisions.csv`): a change of a
rule shows in its review as the lines that it moves.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

from geo_router import tables
from geo_router.lookup import Line, lines

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from geo_router.tables import Tables

COLUMNS = Line._fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A place and sector whose answer differs."""

    old: Line
    new: Line

    def __str__(self) -> str:
        """One line of the report."""
        order = (
            "" if str(self.old) != str(self.new) else ", the order of the others or the rule"
        )
        return f"{self.new.place} {self.new.sector}: {self.old} → {self.new}{order}"


def load(path: Path) -> Tables:
    """Tables from a compiled file, or from a folder of rules (compiled on the way)."""
    if path.is_dir():
        from geo_router.rulebook.compile import compiled  # noqa: PLC0415 - needs PyYAML

        return tables.read(compiled(path))
    return tables.read(path.read_bytes())


def changes(old: Tables, new: Tables, *, today: str) -> list[Change]:
    """The lines that differ; a place that only one of the two knows is not comparable and raises."""
    before = {line[:2]: line for line in lines(old, today=today)}
    after = {line[:2]: line for line in lines(new, today=today)}
    if before.keys() != after.keys():
        raise ValueError(f"places differ: {sorted(before.keys() ^ after.keys())}")
    return [
        Change(old=before[place], new=line)
        for place, line in after.items()
        if before[place] != line
    ]


def as_csv(found: Iterable[Line]) -> str:
    """The golden table."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(found)
    return text.getvalue()
