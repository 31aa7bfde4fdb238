"""Decide where a customer may live: lawful first, then near.

Pure: no clock, no file, no network; the rules, the day and the state of the clusters come in. The
steps are read from top to bottom in `decide`, and each can only take clusters away; the order is
that of `semantics` in rules/residency_rules.yaml. Standard library only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from geo_router import rank
from geo_router.model import (
    COUNTED_STATUS,
    Decision,
    Fired,
    Places,
    Refusal,
    Role,
    Stages,
    Verdict,
)

if TYPE_CHECKING:
    from geo_router.model import Part, Request, Rule
    from geo_router.tables import Tables

SANCTIONS = "sanctions"


class _Found(NamedTuple):
    """What is known so far: the last fields of the verdict, in its order."""

    fired: tuple[Fired, ...]
    evidence: tuple[Fired, ...]
    stages: Stages
    home: int | None
    places: Places | None
    open_now: int


def decide(
    tables: Tables, request: Request, *, today: str, open_now: int, metric: str = "rtt"
) -> Verdict:
    """The verdict on a checked request, by the rules as of `today`.

    `open_now` is the mask of the clusters that take new spaces at this moment.
    """
    held = held_conditions(tables, request, today)
    fired = law_of(tables, request, today)
    so_far = _Found(fired, (), Stages(), _common_home(fired), None, open_now)
    refusal = _refused(fired)
    if refusal is not None:
        return _no(_by_law(refusal, fired), refusal, so_far)
    evidence = _evidence(tables, request, today)
    so_far = so_far._replace(evidence=evidence) if evidence else so_far
    if any(found.part.refusal == SANCTIONS for found in evidence):
        return _no(Decision.NEEDS_REVIEW, Refusal.LOCATION_CONFLICT, so_far)

    stages = _narrowed(tables, request, so_far, held)
    so_far = so_far._replace(stages=stages)
    if not stages.law:
        return _no(Decision.REFUSED, _why_nothing(tables, fired, today), so_far)
    if not stages.strict:
        kind = _emptied_by(stages)
        by_person = kind is Refusal.LOCATION_CONFLICT
        return _no(Decision.NEEDS_REVIEW if by_person else Decision.REFUSED, kind, so_far)

    places = _places(tables, request, stages.strict, so_far.home, metric)
    return _first_open(request, so_far._replace(places=places))


def held_conditions(tables: Tables, request: Request, today: str) -> int:
    """What holds: defaults, reviewed facts of the vendor and what is asserted, less what is withdrawn.

    A condition cannot hold before the day it exists.
    """
    held = tables.default_conditions | request.asserted
    for since, fact in tables.fact_dates:
        if today >= since:
            held |= fact
    for since, condition in tables.dated:
        if today < since:
            held &= ~condition
    return held & ~request.withdrawn


def law_of(tables: Tables, request: Request, today: str) -> tuple[Fired, ...]:
    """The rules that make the law: of the place of establishment, then of each data subject country."""
    rule = None
    if request.subdivision is not None:
        rule = tables.subdivisions.get(request.subdivision)
    if rule is None:
        rule = tables.countries[request.country].rule
    first = Fired(
        rule, part_at(rule, request.sector, today), Role.ESTABLISHMENT, request.country
    )
    if not request.subjects:
        return (first,)
    return (
        first,
        *[
            _read(tables, code, request.sector, today, Role.DATA_SUBJECTS)
            for code in request.subjects
            if code != request.country or rule is not tables.countries[code].rule
        ],
    )


def part_at(rule: Rule, sector: str, today: str) -> Part:
    """The part of a rule that counts for a sector on a day."""
    for text in rule.older:
        if text.until is not None and today < text.until:
            return text.parts[sector]
    return rule.now[sector]


def allowed(part: Part, held: int) -> int:
    """The clusters that a part opens: as such, or because all conditions of one way hold."""
    mask = part.allow
    for need, opened in part.ways:
        if need & held == need:
            mask |= opened
    return mask


def possible(tables: Tables, part: Part, today: str) -> int:
    """The clusters that a part could open, were all conditions that exist on that day to hold."""
    return allowed(part, every_condition(tables, today))


def every_condition(tables: Tables, today: str) -> int:
    """The conditions that can hold at all on a day."""
    mask = (1 << len(tables.conditions)) - 1
    for since, condition in tables.dated:
        if today < since:
            mask &= ~condition
    return mask


def certified(tables: Tables, request: Request) -> int:
    """The clusters that carry every certification asked for."""
    mask = tables.every_cluster
    for name in request.certifications:
        offering = tables.offerings[name]
        counts = offering.status in COUNTED_STATUS or request.superseded_counts
        mask &= offering.clusters if counts else 0
    return mask


def _read(tables: Tables, code: str, sector: str, today: str, role: Role) -> Fired:
    rule = tables.countries[code].rule
    return Fired(rule, part_at(rule, sector, today), role, code)


def _narrowed(tables: Tables, request: Request, so_far: _Found, held: int) -> Stages:
    """The set after each step, each within the one before."""
    law = tables.every_cluster
    for one in so_far.fired:
        law &= allowed(one.part, held)
    by_evidence = law
    for found in so_far.evidence:
        if found.role is Role.BILLING:
            # A billing country that refuses opens nothing: the two cannot be reconciled here.
            by_evidence &= 0 if found.part.refusal else allowed(found.part, held)
    by_certificate = by_evidence & certified(tables, request)
    by_wish = by_certificate & ~request.exclude
    if request.pin is not None:
        by_wish &= 1 << request.pin
    left = by_wish
    if request.strict:
        left = 0 if so_far.home is None else by_wish & 1 << so_far.home
    return Stages(law, by_evidence, by_certificate, by_wish, left)


def _common_home(fired: tuple[Fired, ...]) -> int | None:
    """The home cluster, where every rule names the same one."""
    home = fired[0].rule.home
    for one in fired:
        if one.rule.home != home:
            return None
    return home


def _refused(fired: tuple[Fired, ...]) -> Refusal | None:
    refusals = [one.part.refusal for one in fired if one.part.refusal is not None]
    if not refusals:
        return None
    return Refusal.SANCTIONS if SANCTIONS in refusals else Refusal.LOCALISATION


def _by_law(refusal: Refusal, fired: tuple[Fired, ...]) -> Decision:
    """Nobody is told "the law forbids it" on a guess: all low, and a person looks first."""
    sure = [
        one for one in fired if one.part.refusal is not None and one.part.confidence != "low"
    ]
    if refusal is Refusal.SANCTIONS or sure:
        return Decision.REFUSED
    return Decision.NEEDS_REVIEW


def _evidence(tables: Tables, request: Request, today: str) -> tuple[Fired, ...]:
    """The rules of the billing and the network country, where these are not the declared one."""
    found: list[Fired] = []
    for code, role in ((request.billing, Role.BILLING), (request.network, Role.NETWORK)):
        if code is not None and code != request.country:
            found.append(_read(tables, code, request.sector, today, role))
    return tuple(found)


def _why_nothing(tables: Tables, fired: tuple[Fired, ...], today: str) -> Refusal:
    """A condition is missing, or the rules leave nothing whatever holds."""
    could = tables.every_cluster
    for one in fired:
        could &= possible(tables, one.part, today)
    return Refusal.CONDITION_REQUIRED if could else Refusal.RESIDENCY_CONFLICT


def _emptied_by(stages: Stages) -> Refusal:
    if not stages.evidence:
        return Refusal.LOCATION_CONFLICT
    if not stages.certification:
        return Refusal.CERTIFICATION_UNAVAILABLE
    if not stages.wishes:
        return Refusal.REQUIREMENT_CONFLICT
    return Refusal.NO_HOME_CLUSTER


def _places(
    tables: Tables, request: Request, among: int, home: int | None, metric: str
) -> Places:
    """The clusters in the order of choice: home first unless latency is preferred, then the nearest."""
    country = tables.countries[request.country]
    places = country.near if metric == "rtt" else country.near_by_km
    if request.coordinates is not None:
        lat, lon = request.coordinates
        places = rank.places_from(tables.model, lat, lon, metric=metric)
    if request.measured and metric == "rtt":
        measured = rank.measured_places(
            tables.model.names, places, request.measured, among=among
        )
        places = measured or places
    if home is None or request.by_latency or not among >> home & 1 or places.order[0] == home:
        return places
    return places._replace(order=(home, *[at for at in places.order if at != home]))


def _first_open(request: Request, found: _Found) -> Verdict:
    """The first cluster in order that takes new spaces, or a place in the queue of the first."""
    left, open_now = found.stages.strict, found.open_now
    order = () if found.places is None else found.places.order
    first = next(at for at in order if left >> at & 1)
    chosen: int | None = first if open_now >> first & 1 else None
    if chosen is None and _may_move(request, found.home, left):
        chosen = next((at for at in order if left & open_now & 1 << at), None)
    if chosen is None:
        return Verdict(Decision.QUEUED, Refusal.NO_CAPACITY, first, *found)
    return Verdict(Decision.ALLOWED, None, chosen, *found)


def _may_move(request: Request, home: int | None, left: int) -> bool:
    """Whether the next cluster may be tried: a home is given up only by the customer's word."""
    has_home = home is not None and left >> home & 1
    return not has_home or request.by_latency or (request.may_fall_back and not request.strict)


def _no(decision: Decision, refusal: Refusal, found: _Found) -> Verdict:
    return Verdict(decision, refusal, None, *found)
