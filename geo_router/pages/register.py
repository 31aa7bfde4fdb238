"""The register of the vendor's offerings as a page: each offering against the six clusters. Pure.

Three marks, and no count that is not computed. What the platform's vendor was audited for and what
we are is kept apart: the page says of us only what `compliance.OURS` holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from geo_router import compliance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geo_router.tables import Offering, Tables

PAGE = "/console/compliance"


class Mark(Enum):
    """What a cluster has of an offering: a letter for the style, a shape, a word."""

    AUDITED = ("a", "●", "audited")
    GUIDANCE = ("g", "○", "guidance")
    NOT_AVAILABLE = ("n", "·", "no")

    @property
    def style(self) -> str:
        """The class of the cell."""
        return self.value[0]

    @property
    def text(self) -> str:
        """Shape and word: never told by colour alone."""
        return f"{self.value[1]} {self.value[2]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One value of a filter."""

    value: str
    text: str
    is_chosen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One filter with what may be chosen; `wrong` says what is not understood."""

    name: str
    label: str
    choices: tuple[Choice, ...]
    wrong: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One offering."""

    id: str
    title: str
    about: str
    source: str
    note: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The offerings of one category."""

    title: str
    lines: tuple[Line, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """One cluster: how many offerings carry each mark, of all that are listed."""

    name: str
    audited: int
    guidance: int
    not_available: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Register:
    """The whole page."""

    ours: str
    counted_by: str
    listed: int
    counts: tuple[Count, ...]
    clusters: tuple[str, ...]
    shown: int
    sections: tuple[Section, ...]
    scopes: tuple[tuple[str, str], ...]
    """What the scopes of the listed offerings mean."""
    filters: tuple[Filter, ...]
    unknown: tuple[str, ...]

    @property
    def is_wrong(self) -> bool:
        """True where a filter was not understood; nothing is listed then."""
        return bool(self.unknown or any(one.wrong for one in self.filters))


def register(rules: Tables, given: Mapping[str, str]) -> Register:
    """The page for the filters given: cluster, category, status."""
    filters = _filters(rules, given)
    unknown = tuple(name[:64] for name in given if name not in {one.name for one in filters})
    is_wrong = unknown or any(one.wrong for one in filters)
    listed = [] if is_wrong else _listed(rules, given)
    categories = dict.fromkeys(offering.category for offering in listed)
    sections = tuple(
        Section(
            title=_plain(category),
            lines=tuple(
                _line(one, len(rules.clusters)) for one in listed if one.category == category
            ),
        )
        for category in categories
    )
    return Register(
        ours=_ours(),
        counted_by=str(compliance.counts(rules)[0]["counted_by"]),
        listed=len(rules.offerings),
        counts=_counts(rules),
        clusters=tuple(cluster.name.partition(" (")[0] for cluster in rules.clusters),
        shown=len(listed),
        sections=sections,
        scopes=tuple(
            (name, text)
            for name, text in rules.scopes.items()
            if name in {offering.scope for offering in listed}
        ),
        filters=filters,
        unknown=unknown,
    )


def mark(offering: Offering, cluster: int) -> Mark:
    """What a cluster, by its number, has of an offering."""
    if not offering.clusters >> cluster & 1:
        return Mark.NOT_AVAILABLE
    return Mark.AUDITED if compliance.is_audited_and_current(offering) else Mark.GUIDANCE


def _ours() -> str:
    held = ", ".join(compliance.OURS)
    claim = f"We hold ourselves: {held}." if held else "We hold no certificate of our own."
    return (
        f"{claim} Everything listed here is the platform vendor's: it says that the vendor's "
        "platform was audited, or that the vendor gives guidance, a contract or a statement. "
        "Nothing of it claims that we are certified or that a customer complies."
    )


def _counts(rules: Tables) -> tuple[Count, ...]:
    counts: list[Count] = []
    for at, cluster in enumerate(rules.clusters):
        marks = [mark(offering, at) for offering in rules.offerings.values()]
        counts.append(
            Count(
                name=cluster.name,
                audited=marks.count(Mark.AUDITED),
                guidance=marks.count(Mark.GUIDANCE),
                not_available=marks.count(Mark.NOT_AVAILABLE),
            )
        )
    return tuple(counts)


def _listed(rules: Tables, given: Mapping[str, str]) -> list[Offering]:
    found = compliance.listed(rules, cluster=given.get("cluster"), status=given.get("status"))
    return [one for one in found if given.get("category") in (None, one.category)]


def _filters(rules: Tables, given: Mapping[str, str]) -> tuple[Filter, ...]:
    offerings = rules.offerings.values()
    clusters = {cluster.id: cluster.name for cluster in rules.clusters}
    categories = {one.category: _plain(one.category) for one in offerings}
    statuses = {one.status: one.status for one in offerings}
    return (
        _filter("cluster", "Carried by", "any cluster, or none", clusters, given),
        _filter("category", "Category", "all", categories, given),
        _filter("status", "Status", "all", statuses, given),
    )


def _filter(
    name: str, label: str, everything: str, values: Mapping[str, str], given: Mapping[str, str]
) -> Filter:
    chosen = given.get(name, "")
    choices = {"": everything, **values}
    return Filter(
        name=name,
        label=label,
        choices=tuple(
            Choice(value=value, text=text, is_chosen=value == chosen and bool(value))
            for value, text in choices.items()
        ),
        wrong="" if chosen in choices else f"there is no {name} '{chosen[:64]}'",
    )


def _line(offering: Offering, clusters: int) -> Line:
    return Line(
        id=offering.id,
        title=offering.title,
        about=f"{offering.scope} · {offering.status} · {offering.confidence} confidence",
        source=offering.url if offering.url.startswith(("https://", "http://")) else "",
        note=offering.note or "",
        marks=tuple(mark(offering, at) for at in range(clusters)),
    )


def _plain(category: str) -> str:
    words = category.replace("-", " ")
    return words[:1].upper() + words[1:]
