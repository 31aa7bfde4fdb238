"""What a change of the rules changes: every country and sector, before and after.

The golden table is the same list as a file (`tests/geo_router/golden/decisions.csv`): a change of a
rule shows in its review as the lines that it moves.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

from geo_router import decide, tables
from geo_router.model import Decision, Request

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from geo_router.tables import Tables

COLUMNS = ("place", "sector", "decision", "refusal", "cluster", "ranked", "rule")


class Line(NamedTuple):
    """The answer for a place (country or subdivision) and a sector, without any wishes."""

    place: str
    sector: str
    decision: str
    refusal: str
    cluster: str
    ranked: str
    rule: str

    def __str__(self) -> str:
        """For a sentence: allowed → a cluster, else the refusal."""
        return self.cluster or f"{self.decision} ({self.refusal})"


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


def lines(rules: Tables, *, today: str) -> list[Line]:
    """Every code and subdivision with a rule of its own, times every sector, sorted."""
    places = [(code, None) for code in rules.countries]
    places += [(code[:2], code) for code in rules.subdivisions]
    return sorted(
        _line(rules, Request(country=country, subdivision=subdivision, sector=sector), today)
        for (country, subdivision), sector in product(places, rules.sectors)
    )


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


def _line(rules: Tables, request: Request, today: str) -> Line:
    verdict = decide.decide(rules, request, today=today, open_now=rules.every_cluster)
    ids = [cluster.id for cluster in rules.clusters]
    order = () if verdict.places is None else verdict.places.order
    chosen = verdict.cluster if verdict.decision is Decision.ALLOWED else None
    return Line(
        place=request.subdivision or request.country,
        sector=request.sector,
        decision=str(verdict.decision),
        refusal=str(verdict.refusal or ""),
        cluster="" if chosen is None else ids[chosen],
        ranked=" ".join(ids[at] for at in order if verdict.stages.strict >> at & 1),
        rule=verdict.fired[0].rule.id,
    )
